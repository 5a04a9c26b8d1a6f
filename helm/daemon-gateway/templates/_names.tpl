{{/* Names, labels, and the metadata that every object has. */}}

{{- define "gateway.fullname" -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- default $release .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- define "gateway.namespace" -}}{{ default .Release.Namespace .Values.namespaceOverride }}{{- end -}}

{{/* Selector labels of a component; takes (list root component). They never change, because selectors cannot. */}}
{{- define "gateway.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* A map whose values are text, as Kubernetes wants labels and annotations; --set makes booleans and numbers of some. Takes the map or nil. */}}
{{- define "gateway.textMap" -}}
{{- $text := dict -}}
{{- range $key, $value := . -}}{{- $_ := set $text $key (include "gateway.scalar" $value) -}}{{- end -}}
{{- with $text -}}{{ toYaml . }}{{- end -}}
{{- end -}}

{{/*
Metadata of an object; takes a dict of root and component, and optionally of name (otherwise the component's), labels and annotations. What
the chart itself says of an object wins over what is said of all objects.
*/}}
{{- define "gateway.metadata" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $labels := include "gateway.selector" (list $root .component) | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
name: {{ default (printf "%s-%s" (include "gateway.fullname" $root) .component) .name }}
{{- with $values.namespaceOverride }}
namespace: {{ . }}
{{- end }}
labels:
  {{- merge $labels (default (dict) .labels) (default (dict) $values.commonLabels) | include "gateway.textMap" | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) (default (dict) $values.commonAnnotations) }}
annotations:
  {{- include "gateway.textMap" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image; takes (list root image). A registry for all images of an umbrella chart comes first. */}}
{{- define "gateway.image" -}}
{{- $image := index . 1 -}}
{{- with default $image.registry ((index . 0).Values.global).imageRegistry -}}{{ trimSuffix "/" . }}/{{- end -}}
{{ $image.repository }}{{ with $image.digest }}@{{ . }}{{ else }}:{{ include "gateway.scalar" $image.tag }}{{ end }}
{{- end -}}

{{/* The gateway's own image: where the values name no version of it, that of the chart's release,
     or else of the chart's appVersion. */}}
{{- define "gateway.ownImage" -}}
{{- $image := .Values.image -}}
{{- if not (or $image.digest $image.tag) -}}
{{- $version := dict "tag" .Chart.AppVersion -}}
{{- with .Chart.Annotations -}}{{- with index . "daemon-gateway/image-digest" -}}{{- $version = dict "digest" . -}}{{- end -}}{{- end -}}
{{- $image = merge $version $image -}}
{{- end -}}
{{ include "gateway.image" (list . $image) }}
{{- end -}}

{{/* The Secrets, made by the chart or existing. */}}
{{- define "gateway.secret.gossip" -}}{{ default (printf "%s-gossip" (include "gateway.fullname" .)) .Values.gossip.existingSecret }}{{- end -}}
{{- define "gateway.secret.jwt" -}}{{ default (printf "%s-jwt" (include "gateway.fullname" .)) .Values.jwt.existingSecret }}{{- end -}}
{{- define "gateway.secret.nats" -}}{{ default (printf "%s-nats" (include "gateway.fullname" .)) .Values.nats.existingSecret }}{{- end -}}
{{- define "gateway.secret.redis" -}}{{ default (printf "%s-redis" (include "gateway.fullname" .)) .Values.redis.existingSecret }}{{- end -}}
{{- define "gateway.secret.intake" -}}{{ default (printf "%s-intake" (include "gateway.fullname" .)) .Values.intake.existingSecret }}{{- end -}}
