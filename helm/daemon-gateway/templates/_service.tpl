{{/*
A Service of a component; takes a dict of root, component and ports (a list), and optionally of name, labels, annotations, selector, headless,
and options, which is what the values say of it.
*/}}
{{- define "gateway.service" -}}
{{- $root := .root -}}
{{- $options := default (dict) .options -}}
{{- $type := default "ClusterIP" $options.type -}}
{{- $fields := list "ipFamilyPolicy" "ipFamilies" -}}
{{- if ne $type "ClusterIP" -}}{{- $fields = append $fields "externalTrafficPolicy" -}}{{- end -}}
{{- if eq $type "LoadBalancer" -}}
{{- $fields = concat $fields (list "loadBalancerClass" "loadBalancerSourceRanges" "loadBalancerIP" "allocateLoadBalancerNodePorts" "healthCheckNodePort") -}}
{{- end -}}
apiVersion: v1
kind: Service
metadata:
  {{- $labels := merge (dict) (default (dict) .labels) (default (dict) $options.labels) }}
  {{- $annotations := merge (dict) (default (dict) .annotations) (default (dict) $options.annotations) }}
  {{- include "gateway.metadata" (dict "root" $root "component" .component "name" .name "labels" $labels "annotations" $annotations) | nindent 2 }}
spec:
  {{- if .headless }}
  clusterIP: None
  publishNotReadyAddresses: true
  {{- else }}
  type: {{ $type }}
  {{- end }}
  {{- range $field := $fields }}
  {{- $value := get $options $field }}
  {{- if has $field (list "ipFamilyPolicy" "ipFamilies") }}{{- $value = default (get $root.Values.service $field) $value }}{{- end }}
  {{- if or $value (eq (toString $value) "false") }}
  {{ $field }}:
    {{- toYaml $value | nindent 4 }}
  {{- end }}
  {{- end }}
  selector:
    {{- default (include "gateway.selector" (list $root .component) | fromYaml) .selector | toYaml | nindent 4 }}
  ports:
    {{- toYaml .ports | nindent 4 }}
{{- end -}}

{{/* The port of a Service by which others come in; takes (dict name port options). */}}
{{- define "gateway.servicePort" -}}
{{- $options := default (dict) .options -}}
name: {{ .name }}
port: {{ .port }}
targetPort: {{ .name }}
{{- with default .appProtocol $options.appProtocol }}
appProtocol: {{ . }}
{{- end }}
{{- if ne (default "ClusterIP" $options.type) "ClusterIP" }}
{{- with $options.nodePort }}
nodePort: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
