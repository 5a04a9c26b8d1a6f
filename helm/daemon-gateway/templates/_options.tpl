{{/*
Options that every component has under the same name: given for all pods at the top level of the values, and for one component in its
section. Each of these templates takes (list root component option) and gives YAML or nothing. Templates in the values are resolved, but not in
maps: annotations hold templates for others.
*/}}

{{/* The component's own, or else the one for all. */}}
{{- define "gateway.option" -}}
{{- $root := index . 0 -}}
{{- with default (get $root.Values (index . 2)) (get (index $root.Values (index . 1)) (index . 2)) -}}
{{ tpl (toYaml .) $root }}
{{- end -}}
{{- end -}}

{{/* A map of text with the entries for all, and the component's own, which win. */}}
{{- define "gateway.mapOption" -}}
{{- $root := index . 0 -}}
{{- $own := default (dict) (get (index $root.Values (index . 1)) (index . 2)) -}}
{{ merge (dict) $own (default (dict) (get $root.Values (index . 2))) | include "gateway.textMap" }}
{{- end -}}

{{/* A list of the items for all, and then the component's own. */}}
{{- define "gateway.listOption" -}}
{{- $root := index . 0 -}}
{{- $own := default (list) (get (index $root.Values (index . 1)) (index . 2)) -}}
{{- with concat (default (list) (get $root.Values (index . 2))) $own -}}
{{ tpl (toYaml .) $root }}
{{- end -}}
{{- end -}}

{{/* Items of the chart's own, and then those of a list option; takes (list root component option items). */}}
{{- define "gateway.extended" -}}
{{- with concat (index . 3) (include "gateway.listOption" . | fromYamlArray) -}}{{ toYaml . }}{{- end -}}
{{- end -}}
