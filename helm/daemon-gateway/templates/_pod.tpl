{{/* The pods of all Deployments, StatefulSets, Jobs and tests. What can be said of pods in the values is said here, and nowhere else. */}}

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

{{/* The files of a component's Secrets, only its own; takes (list root component). */}}
{{- define "gateway.secretSources" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := $root.Values -}}
{{- $connects := has $component (list "edge" "router" "bridge" "admin" "backup" "toolbox") -}}
{{- $user := include "gateway.natsUser" $component -}}
{{- if and $connects (not $values.nats.urls) }}
- secret: {name: {{ include "gateway.secret.nats" $root }}, items: [{key: {{ $user }}-url, path: nats-url}]}
{{- end }}
{{- if and $connects $values.nats.credsSecret }}
- secret: {name: {{ $values.nats.credsSecret }}, items: [{key: {{ $user }}.creds, path: nats.creds}]}
{{- end }}
{{- if and $connects $values.nats.nkeySecret }}
- secret: {name: {{ $values.nats.nkeySecret }}, items: [{key: {{ $user }}.nk, path: nats.nk}]}
{{- end }}
{{- if $connects }}
{{- include "gateway.tlsSource" (list $values.nats "nats") }}
{{- end }}
{{- if and $values.postgres.existingSecret (include "gateway.asksDatabase" $component) }}
- secret: {name: {{ $values.postgres.existingSecret }}, items: [{key: database-url, path: database-url}]}
{{- include "gateway.tlsSource" (list $values.postgres "database") }}
{{- end }}
{{- if and $values.otel.headersSecret (has $component (list "edge" "router" "bridge")) }}
- secret: {name: {{ $values.otel.headersSecret }}, items: [{key: headers, path: otel-headers}]}
{{- end }}
{{- if has $component (list "edge" "router") }}
- secret: {name: {{ include "gateway.secret.gossip" $root }}, items: [{key: gossip-keys, path: gossip-keys}]}
{{- end }}
{{- if and (has $component (list "edge" "test")) (include "gateway.hasJWTSecret" $root) }}
- secret:
    name: {{ include "gateway.secret.jwt" $root }}
    items:
      - {key: {{ $values.jwt.key }}, path: jwt-secret}
      {{- if and $values.jwt.previousKey (eq $component "edge") }}
      - {key: {{ $values.jwt.previousKey }}, path: jwt-secret-previous}
      {{- end }}
{{- end }}
{{- with $values.jwt.publicKeys }}
{{- if and (eq $component "edge") .existingSecret }}
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
{{- if and (eq $component "edge") $values.edge.clientCASecret }}
- secret: {name: {{ $values.edge.clientCASecret }}, items: [{key: ca.crt, path: client-ca.crt}]}
{{- end }}
{{- if has $component (list "bridge" "test") }}
{{- include "gateway.tlsSource" (list $values.redis "redis") }}
{{- end }}
{{- if and (has $component (list "bridge" "test")) (not $values.redis.url) }}
- secret: {name: {{ include "gateway.secret.redis" $root }}, items: [{key: redis-url, path: redis-url}]}
{{- end }}
{{- if eq $component "backup" }}
{{- include "gateway.backupSecretSources" $values.backup }}
{{- end }}
{{- if and (eq $component "bridge") $values.intake.enabled }}
- secret: {name: {{ include "gateway.secret.intake" $root }}, items: [{key: api-keys, path: api-keys}]}
{{- with $values.intake.tlsSecret }}
- secret: {name: {{ . }}, items: [{key: tls.crt, path: intake-tls.crt}, {key: tls.key, path: intake-tls.key}]}
{{- end }}
{{- with $values.intake.clientCASecret }}
- secret: {name: {{ . }}, items: [{key: ca.crt, path: intake-client-ca.crt}]}
{{- end }}
{{- end }}
{{- end -}}

{{/* The Secrets that backups are taken and restored with; takes the section backup. */}}
{{- define "gateway.backupSecretSources" -}}
{{- if and .s3.url .s3.existingSecret }}
- secret:
    name: {{ .s3.existingSecret }}
    items:
      - {key: access-key-id, path: s3-access-key-id}
      - {key: secret-access-key, path: s3-secret-access-key}
{{- end }}
{{- with .signing.existingSecret }}
- secret:
    name: {{ . }}
    items:
      - {key: signing.pem, path: backup-signing.pem}
      - {key: signing-public.pem, path: backup-signing-public.pem}
{{- end }}
{{- if .restore.enabled }}
{{- with .restore.identitySecret }}
- secret: {name: {{ . }}, items: [{key: identity.txt, path: backup-identity.txt}]}
{{- end }}
{{- end }}
{{- end -}}

{{/* The volume with these files, and where it is mounted: lists of one or none. */}}
{{- define "gateway.secretVolumes" -}}
{{- with include "gateway.secretSources" . | trim -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end -}}
{{- end -}}
{{- define "gateway.secretMounts" -}}
{{- if include "gateway.secretSources" . | trim -}}
- {name: secrets, mountPath: {{ include "gateway.secretsPath" (index . 0) }}, readOnly: true}
{{- end -}}
{{- end -}}

{{/* The ServiceAccount of a component; takes (list root component). */}}
{{- define "gateway.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $own := default (dict) (index $root.Values (index . 1)).serviceAccount -}}
{{- $account := mergeOverwrite (deepCopy (default (dict) $root.Values.serviceAccount)) (deepCopy $own) -}}
{{- if not $account.name -}}
{{- $_ := set $account "name" (ternary (printf "%s-%s" (include "gateway.fullname" $root) (index . 1)) "default" (default false $account.create)) -}}
{{- end -}}
{{ toYaml $account }}
{{- end -}}

{{/* Names of Secrets for pulling images, as plain names or as Kubernetes writes them. */}}
{{- define "gateway.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (default (list) (.Values.global).imagePullSecrets) (default (list) .Values.imagePullSecrets) -}}
{{- $names = append $names (kindIs "string" . | ternary . (kindIs "map" . | ternary . (dict)).name) -}}
{{- end -}}
{{- range uniq $names }}
- name: {{ . }}
{{- end }}
{{- end -}}

{{/* Environment variables in which each name is there once: the last one given. Takes a list. */}}
{{- define "gateway.env" -}}
{{- $names := list -}}
{{- $variables := dict -}}
{{- range . -}}
{{- $names = append $names .name -}}
{{- $_ := set $variables .name . -}}
{{- end -}}
{{- range uniq $names }}
- {{ get $variables . | toYaml | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/* A container's own probe with what the values change of it; another way to ask replaces the chart's. Takes (list own change). */}}
{{- define "gateway.probe" -}}
{{- $own := index . 0 -}}
{{- $change := index . 1 -}}
{{- if pick $change "httpGet" "tcpSocket" "exec" "grpc" -}}
{{- $own = omit $own "httpGet" "tcpSocket" -}}
{{- end -}}
{{ merge (deepCopy $change) $own | toYaml }}
{{- end -}}

{{/* The main container; takes a dict of root, component and container, which is what the chart itself says of it. */}}
{{- define "gateway.container" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $values := index $root.Values $component -}}
{{- $container := deepCopy .container -}}
{{- $env := default (list) $container.env -}}
{{- with include "gateway.env" (include "gateway.extended" (list $root $component "extraEnv" $env) | fromYamlArray) | fromYamlArray -}}
{{- $_ := set $container "env" . -}}
{{- end -}}
{{- range $field, $option := dict "envFrom" "extraEnvFrom" "volumeMounts" "extraVolumeMounts" -}}
{{- with include "gateway.extended" (list $root $component $option (default (list) (get $container $field))) | fromYamlArray -}}
{{- $_ := set $container $field . -}}
{{- end -}}
{{- end -}}
{{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" -}}
{{- with get $values $probe -}}
{{- $_ := set $container $probe (include "gateway.probe" (list (default (dict) (get $container $probe)) .) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- range $hook, $handler := default (dict) $values.lifecycle -}}
{{- $_ := set $container "lifecycle" (merge (dict $hook $handler) (omit (default (dict) $container.lifecycle) $hook)) -}}
{{- end -}}
{{- with include "gateway.option" (list $root $component "securityContext") | fromYaml -}}
{{- $_ := set $container "securityContext" . -}}
{{- end -}}
{{- with $values.resources -}}
{{- $_ := set $container "resources" . -}}
{{- end -}}
{{ toYaml $container }}
{{- end -}}

{{/* Labels and annotations of a component's pods; take a dict of root and component, and optionally of labels and annotations. */}}
{{- define "gateway.podLabels" -}}
{{- $labels := include "gateway.selector" (list .root .component) | fromYaml -}}
{{- $given := include "gateway.mapOption" (list .root .component "podLabels") | fromYaml -}}
{{ merge $labels (default (dict) .labels) $given (default (dict) .root.Values.commonLabels) | include "gateway.textMap" }}
{{- end -}}
{{- define "gateway.podAnnotations" -}}
{{- $given := include "gateway.mapOption" (list .root .component "podAnnotations") | fromYaml -}}
{{- with merge (dict) (default (dict) .annotations) $given -}}{{ toYaml . }}{{- end -}}
{{- end -}}

{{/* Spread constraints of the values; the component's own pods are meant where they do not say which. */}}
{{- define "gateway.givenSpread" -}}
{{- $selector := dict "matchLabels" (include "gateway.selector" . | fromYaml) -}}
{{- range include "gateway.option" (list (index . 0) (index . 1) "topologySpreadConstraints") | fromYamlArray }}
- {{ merge . (ternary (dict) (dict "labelSelector" $selector) (hasKey . "labelSelector")) | toYaml | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/*
The spec of a pod; takes a dict of root and component, container (what the chart says of it), and optionally volumes (a list), spread (a
list, unless the values have one), restartPolicy and graceSeconds.
*/}}
{{- define "gateway.podSpec" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $named := list $root $component -}}
{{- $account := include "gateway.serviceAccount" $named | fromYaml -}}
serviceAccountName: {{ $account.name }}
automountServiceAccountToken: {{ default false $account.automount }}
enableServiceLinks: false
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
{{- with default .graceSeconds (index $root.Values $component).terminationGracePeriodSeconds }}
terminationGracePeriodSeconds: {{ int . }}
{{- end }}
{{- with include "gateway.pullSecrets" $root | trim }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- range $field := list "dnsPolicy" "priorityClassName" "runtimeClassName" "schedulerName" }}
{{- with include "gateway.option" (list $root $component $field) }}
{{ $field }}: {{ . }}
{{- end }}
{{- end }}
{{- range $field, $option := dict "securityContext" "podSecurityContext" "dnsConfig" "" "affinity" "" }}
{{- with include "gateway.option" (list $root $component (default $field $option)) }}
{{ $field }}:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}
{{- with include "gateway.mapOption" (list $root $component "nodeSelector") }}
nodeSelector:
  {{- . | nindent 2 }}
{{- end }}
{{- range $field, $option := dict "tolerations" "" "hostAliases" "" "initContainers" "extraInitContainers" }}
{{- with include "gateway.listOption" (list $root $component (default $field $option)) }}
{{ $field }}:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}
{{- with default (default "" .spread | trim) (include "gateway.givenSpread" $named | trim) }}
topologySpreadConstraints:
  {{- . | nindent 2 }}
{{- end }}
containers:
  - {{ include "gateway.container" . | nindent 4 | trim }}
  {{- with include "gateway.listOption" (list $root $component "extraContainers") }}
  {{- . | nindent 2 }}
  {{- end }}
{{- with include "gateway.extended" (list $root $component "extraVolumes" (default (list) .volumes)) }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The template of a workload's pods; takes what gateway.podSpec, gateway.podLabels and gateway.podAnnotations take. */}}
{{- define "gateway.podTemplate" -}}
metadata:
  labels:
    {{- include "gateway.podLabels" . | nindent 4 }}
  {{- with include "gateway.podAnnotations" . }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  {{- include "gateway.podSpec" . | nindent 2 }}
{{- end -}}

{{/* Metadata of a component's Deployment, StatefulSet, Job or Pod: gateway.metadata with the section's labels and annotations. */}}
{{- define "gateway.workloadMetadata" -}}
{{- $section := index .root.Values .component -}}
{{- $labels := merge (dict) (default (dict) .labels) (default (dict) $section.labels) -}}
{{- $annotations := merge (dict) (default (dict) .annotations) (default (dict) $section.annotations) -}}
{{ include "gateway.metadata" (dict "root" .root "component" .component "name" .name "labels" $labels "annotations" $annotations) }}
{{- end -}}
