{{/* Hosts of an Ingress with the Secrets of their certificates, as a list; takes what the values say of the Ingress. */}}
{{- define "gateway.hosts" -}}
- {host: {{ .host | quote }}, tlsSecret: {{ default "" .tlsSecret | quote }}}
{{- $shared := default "" .tlsSecret }}
{{- range .extraHosts }}
{{- if kindIs "string" . }}
- {host: {{ . | quote }}, tlsSecret: {{ $shared | quote }}}
{{- else }}
- {host: {{ .host | quote }}, tlsSecret: {{ default "" .tlsSecret | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* An Ingress that sends some paths of its hosts to a Service; takes a dict of root, component, name, port, paths and options. */}}
{{- define "gateway.ingress" -}}
{{- $given := . -}}
{{- $options := .options -}}
{{- $hosts := include "gateway.hosts" $options | fromYamlArray -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "gateway.metadata" (dict "root" .root "component" .component "name" .name "labels" $options.labels "annotations" $options.annotations) | nindent 2 }}
spec:
  {{- with $options.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- $certified := dict }}
  {{- range $hosts }}
  {{- if .tlsSecret }}{{- $_ := set $certified .tlsSecret (append (get $certified .tlsSecret | default list) .host) }}{{- end }}
  {{- end }}
  {{- with $certified }}
  tls:
    {{- range $secret, $names := . }}
    - hosts: {{ toJson $names }}
      secretName: {{ $secret }}
    {{- end }}
  {{- end }}
  rules:
    {{- range $hosts }}
    - host: {{ .host | quote }}
      http:
        paths:
          {{- range $given.paths }}
          - path: {{ . }}
            pathType: Exact
            backend:
              service: {name: {{ $given.name }}, port: {name: {{ $given.port }}}}
          {{- end }}
    {{- end }}
{{- end -}}

{{/* An HTTPRoute that does the same; takes a dict of root, component, name, port (a number), paths and options. */}}
{{- define "gateway.httpRoute" -}}
{{- $options := .options -}}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  {{- include "gateway.metadata" (dict "root" .root "component" .component "name" .name "labels" $options.labels "annotations" $options.annotations) | nindent 2 }}
spec:
  parentRefs:
    {{- toYaml $options.parentRefs | nindent 4 }}
  {{- with $options.hostnames }}
  hostnames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - matches:
        {{- range .paths }}
        - path: {type: Exact, value: {{ . }}}
        {{- end }}
      {{- with $options.timeouts }}
      timeouts:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      backendRefs:
        - {name: {{ .name }}, port: {{ .port }}}
{{- end -}}
