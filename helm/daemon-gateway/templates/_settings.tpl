{{/* The settings of each tier, as data of its ConfigMap. */}}

{{/* A number or bool as text. Numbers of a values file are floats, and would be written as 1e+06. */}}
{{- define "gateway.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ printf "%.0f" . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* Where the Secrets' files are. */}}
{{- define "gateway.secretsPath" -}}/etc/daemon-gateway/secrets{{- end -}}

{{/* How long a graceful stop of an edge may take: the drain, then writing cursors, leaving the gossip, closing. */}}
{{- define "gateway.shutdownSeconds" -}}
{{- $root := index . 0 -}}
{{- if eq (index . 1) "edge" -}}{{ add $root.Values.edge.drainSeconds 15 }}{{- else -}}{{ (index $root.Values (index . 1)).shutdownSeconds }}{{- end -}}
{{- end -}}

{{/* How long a pod that leaves its Service goes on before it stops; 0 where no load balancer stands before it. */}}
{{- define "gateway.preStopSeconds" -}}
{{- $values := (index . 0).Values -}}
{{- if eq (index . 1) "edge" -}}{{ $values.edge.preStopSeconds }}
{{- else if and (eq (index . 1) "bridge") $values.intake.enabled -}}{{ $values.intake.preStopSeconds }}
{{- else -}}0{{- end -}}
{{- end -}}

{{/* What the kubelet grants before it kills: more than preStop and the stop together. */}}
{{- define "gateway.graceSeconds" -}}
{{ add (include "gateway.preStopSeconds" . | int) (include "gateway.shutdownSeconds" . | int) 5 }}
{{- end -}}

{{/* Whether a tier has to do with PostgreSQL. */}}
{{- define "gateway.asksDatabase" -}}{{ if has . (list "edge" "router" "bridge") }}yes{{ end }}{{- end -}}

{{/* Whether the NATS users may do no more than files/nats/authorization.conf says, which is what the chart's own server has. */}}
{{- define "gateway.restricted" -}}{{ if or .Values.nats.restricted .Values.nats.enabled }}yes{{ end }}{{- end -}}

{{/* Whether there is a secret of the daemons' tokens: where there are public keys there need be none. */}}
{{- define "gateway.hasJWTSecret" -}}{{ if or .Values.jwt.existingSecret .Values.jwt.generate }}yes{{ end }}{{- end -}}

{{/* The files for TLS to a server; takes (list root values name). */}}
{{- define "gateway.tlsSettings" -}}
{{- $secrets := include "gateway.secretsPath" (index . 0) -}}
{{- $values := index . 1 -}}
{{- $name := index . 2 -}}
{{- if $values.tlsSecret }}
{{ upper $name }}_TLS_CA: {{ $secrets }}/{{ $name }}-ca.crt
{{- if $values.tlsClientCertificate }}
{{ upper $name }}_TLS_CERT: {{ $secrets }}/{{ $name }}-tls.crt
{{ upper $name }}_TLS_KEY: {{ $secrets }}/{{ $name }}-tls.key
{{- end }}
{{- end }}
{{- end -}}

{{/* The NATS user of a component: its own, or of the toolbox the operator. */}}
{{- define "gateway.natsUser" -}}{{ ternary "operator" . (eq . "toolbox") }}{{- end -}}

{{/* Where NATS is, and as whom one is there; takes (list root tier). */}}
{{- define "gateway.natsSettings" -}}
{{- $root := index . 0 -}}
{{- $tier := index . 1 -}}
{{- $values := $root.Values -}}
{{- $secrets := include "gateway.secretsPath" $root -}}
{{- if $values.nats.urls -}}
NATS_URL: {{ join "," $values.nats.urls | quote }}
{{- else -}}
NATS_URL_FILE: {{ $secrets }}/nats-url
{{- end }}
{{- if include "gateway.restricted" $root }}
NATS_INBOX_PREFIX: _INBOX_{{ include "gateway.natsUser" $tier }}
{{- end }}
{{- if $values.nats.credsSecret }}
NATS_CREDS_FILE: {{ $secrets }}/nats.creds
{{- end }}
{{- if $values.nats.nkeySecret }}
NATS_NKEY_FILE: {{ $secrets }}/nats.nk
{{- end }}
{{- if $values.nats.tlsFirst }}
NATS_TLS_FIRST: "true"
{{- end }}
{{- with $values.nats.jetstreamDomain }}
NATS_JETSTREAM_DOMAIN: {{ . | quote }}
{{- end }}
{{- include "gateway.tlsSettings" (list $root $values.nats "nats") }}
{{- end -}}

{{/* What the chart itself decides; takes (list root tier). */}}
{{- define "gateway.ownSettings" -}}
{{- $root := index . 0 -}}
{{- $tier := index . 1 -}}
{{- $values := $root.Values -}}
{{- $secrets := include "gateway.secretsPath" $root -}}
ADMIN_ADDR: ":9090"
SHUTDOWN_TIMEOUT: {{ include "gateway.shutdownSeconds" . }}s
MANAGE_STREAMS: {{ ternary "false" "true" (eq (include "gateway.restricted" $root) "yes") | quote }}
{{ include "gateway.natsSettings" . }}
{{- if and $values.postgres.existingSecret (include "gateway.asksDatabase" $tier) }}
DATABASE_URL_FILE: {{ $secrets }}/database-url
{{- include "gateway.tlsSettings" (list $root $values.postgres "database") }}
{{- end }}
{{- if $values.otel.headersSecret }}
OTEL_EXPORTER_OTLP_HEADERS_FILE: {{ $secrets }}/otel-headers
{{- end }}
{{- if ne $tier "bridge" }}
GOSSIP_ADDR: 0.0.0.0:7946
GOSSIP_JOIN: {{ include "gateway.fullname" $root }}-gossip:7946
GOSSIP_KEYS_FILE: {{ $secrets }}/gossip-keys
{{- end }}
{{- if eq $tier "edge" }}
PORT: "8080"
DRAIN_PERIOD: {{ $values.edge.drainSeconds }}s
{{- if include "gateway.hasJWTSecret" $root }}
DAEMON_JWT_SECRET_FILE: {{ $secrets }}/jwt-secret
{{- if $values.jwt.previousKey }}
DAEMON_JWT_SECRET_PREVIOUS_FILE: {{ $secrets }}/jwt-secret-previous
{{- end }}
{{- end }}
{{- if $values.jwt.publicKeys.pem }}
JWT_PUBLIC_KEY_FILE: {{ $secrets }}/jwt-public-keys.pem
{{- end }}
{{- if $values.jwt.publicKeys.jwks }}
JWT_JWKS_FILE: {{ $secrets }}/jwt-jwks.json
{{- end }}
{{- if $values.edge.tlsSecret }}
TLS_CERT_FILE: /etc/daemon-gateway/tls/tls.crt
TLS_KEY_FILE: /etc/daemon-gateway/tls/tls.key
{{- end }}
{{- if $values.edge.clientCASecret }}
TLS_CLIENT_CA_FILE: {{ $secrets }}/client-ca.crt
{{- end }}
{{- end }}
{{- if eq $tier "bridge" }}
{{ include "gateway.redisSettings" $root }}
{{- if $values.intake.enabled }}
HTTP_ADDR: ":8081"
API_KEYS_FILE: {{ $secrets }}/api-keys
{{- if $values.intake.tlsSecret }}
INTAKE_TLS_CERT_FILE: {{ $secrets }}/intake-tls.crt
INTAKE_TLS_KEY_FILE: {{ $secrets }}/intake-tls.key
{{- end }}
{{- if $values.intake.clientCASecret }}
INTAKE_TLS_CLIENT_CA_FILE: {{ $secrets }}/intake-client-ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where Redis is, for bridges and for the test. */}}
{{- define "gateway.redisSettings" -}}
{{- if .Values.redis.url -}}
REDIS_URL: {{ .Values.redis.url | quote }}
{{- else -}}
REDIS_URL_FILE: {{ include "gateway.secretsPath" . }}/redis-url
{{- end }}
{{- with .Values.redis.addrs }}
REDIS_ADDRS: {{ join "," . | quote }}
{{- end }}
{{- with .Values.redis.masterName }}
REDIS_MASTER_NAME: {{ . | quote }}
{{- end }}
{{- include "gateway.tlsSettings" (list . .Values.redis "redis") }}
{{- end -}}

{{/* All settings of a tier; takes (list root tier). */}}
{{- define "gateway.settings" -}}
{{- $root := index . 0 -}}
{{- $given := dict -}}
{{- range list $root.Values.settings (index $root.Values (index . 1)).settings -}}
{{- range $name, $value := . -}}{{- $_ := set $given $name (include "gateway.scalar" $value) -}}{{- end -}}
{{- end -}}
{{ merge (include "gateway.ownSettings" . | fromYaml) $given | toYaml }}
{{- end -}}

{{/* The settings of gateway-admin: what all nodes must agree on about the log. */}}
{{- define "gateway.adminSettings" -}}
{{- $given := dict -}}
{{- range $name, $value := .Values.settings -}}
{{- if has $name (list "PARTITIONS" "STREAM_REPLICAS" "EVENT_RETENTION" "EVENTS_PER_ORCHESTRATOR" "MAX_EVENT_BYTES" "LOG_MAX_BYTES" "CURSOR_PERCENT" "DUPLICATE_WINDOW" "DEADLETTER_RETENTION" "LOG_LEVEL" "LOG_FORMAT") -}}
{{- $_ := set $given $name (include "gateway.scalar" $value) -}}
{{- end -}}
{{- end -}}
{{- if .Values.postgres.existingSecret -}}{{- $_ := set $given "KEEP_UNRESOLVED" "true" -}}{{- end -}}
{{ merge (include "gateway.natsSettings" (list . "admin") | fromYaml) $given | toYaml }}
{{- end -}}

{{/* The settings of the test. */}}
{{- define "gateway.testSettings" -}}
{{- $own := printf "%s://%s-edge:%v%s" (ternary "wss" "ws" (not (empty .Values.edge.tlsSecret))) (include "gateway.fullname" .) .Values.edge.service.port ((.Values.edge.settings).WS_PATH | default "/daemon/ws") -}}
EDGE_URL: {{ default $own .Values.test.url | quote }}
ORCHESTRATOR: {{ .Values.test.orchestrator | quote }}
DAEMON_JWT_SECRET_FILE: {{ include "gateway.secretsPath" . }}/jwt-secret
{{ include "gateway.redisSettings" . }}
{{- with (.Values.bridge.settings).REDIS_CHANNELS }}
REDIS_CHANNEL: {{ splitList "," . | first | trim | quote }}
{{- end }}
{{- end -}}
