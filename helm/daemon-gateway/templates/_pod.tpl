{{/* What the pods of all tiers have in common. */}}

{{/* The restricted level of Pod Security. */}}
{{- define "gateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The files for TLS to a server; takes (list values name). */}}
{{- define "gateway.tlsSource" -}}
{{- $values := index . 0 -}}
{{- $name := index . 1 -}}
{{- if $values.tlsSecret }}
- secret:
    name: {{ $values.tlsSecret }}
    items:
      - {key: ca.crt, path: {{ $name }}-ca.crt}
      {{- if $values.tlsClientCertificate }}
      - {key: tls.crt, path: {{ $name }}-tls.crt}
      - {key: tls.key, path: {{ $name }}-tls.key}
      {{- end }}
{{- end }}
{{- end -}}

{{/* The files of a tier's Secrets, only its own; takes (list root tier). */}}
{{- define "gateway.secretSources" -}}
{{- $root := index . 0 -}}
{{- $tier := index . 1 -}}
{{- $values := $root.Values -}}
{{- if and (ne $tier "test") (not $values.nats.urls) }}
- secret: {name: {{ include "gateway.secret.nats" $root }}, items: [{key: {{ $tier }}-url, path: nats-url}]}
{{- end }}
{{- if and (ne $tier "test") $values.nats.credsSecret }}
- secret: {name: {{ $values.nats.credsSecret }}, items: [{key: {{ $tier }}.creds, path: nats.creds}]}
{{- end }}
{{- if ne $tier "test" }}
{{- include "gateway.tlsSource" (list $values.nats "nats") }}
{{- end }}
{{- if and $values.postgres.existingSecret (include "gateway.asksDatabase" $tier) }}
- secret: {name: {{ $values.postgres.existingSecret }}, items: [{key: database-url, path: database-url}]}
{{- include "gateway.tlsSource" (list $values.postgres "database") }}
{{- end }}
{{- if or (eq $tier "edge") (eq $tier "router") }}
- secret: {name: {{ include "gateway.secret.gossip" $root }}, items: [{key: gossip-keys, path: gossip-keys}]}
{{- end }}
{{- if and (or (eq $tier "edge") (eq $tier "test")) (include "gateway.hasJWTSecret" $root) }}
- secret:
    name: {{ include "gateway.secret.jwt" $root }}
    items:
      - {key: {{ $values.jwt.key }}, path: jwt-secret}
      {{- if and $values.jwt.previousKey (eq $tier "edge") }}
      - {key: {{ $values.jwt.previousKey }}, path: jwt-secret-previous}
      {{- end }}
{{- end }}
{{- with $values.jwt.publicKeys }}
{{- if and (eq $tier "edge") .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items:
      {{- with .pem }}
      - {key: {{ . }}, path: jwt-public-keys.pem}
      {{- end }}
      {{- with .jwks }}
      - {key: {{ . }}, path: jwt-jwks.json}
      {{- end }}
{{- end }}
{{- end }}
{{- if and (eq $tier "edge") $values.edge.clientCASecret }}
- secret: {name: {{ $values.edge.clientCASecret }}, items: [{key: ca.crt, path: client-ca.crt}]}
{{- end }}
{{- if or (eq $tier "bridge") (eq $tier "test") }}
{{- include "gateway.tlsSource" (list $values.redis "redis") }}
{{- end }}
{{- if and (or (eq $tier "bridge") (eq $tier "test")) (not $values.redis.url) }}
- secret: {name: {{ include "gateway.secret.redis" $root }}, items: [{key: redis-url, path: redis-url}]}
{{- end }}
{{- if and (eq $tier "bridge") $values.intake.enabled }}
- secret: {name: {{ include "gateway.secret.intake" $root }}, items: [{key: api-keys, path: api-keys}]}
{{- with $values.intake.tlsSecret }}
- secret: {name: {{ . }}, items: [{key: tls.crt, path: intake-tls.crt}, {key: tls.key, path: intake-tls.key}]}
{{- end }}
{{- with $values.intake.clientCASecret }}
- secret: {name: {{ . }}, items: [{key: ca.crt, path: intake-client-ca.crt}]}
{{- end }}
{{- end }}
{{- end -}}

{{/* Pods of a tier go to different zones and nodes, those of each revision by themselves. Takes (list root tier). */}}
{{- define "gateway.spread" -}}
{{- $selector := include "gateway.selector" . -}}
{{- range $key, $mode := dict "topology.kubernetes.io/zone" (index (index . 0).Values (index . 1)).zoneSpread "kubernetes.io/hostname" "ScheduleAnyway" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: {{ $mode }}
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- $selector | nindent 6 }}
{{- end }}
{{- end -}}
