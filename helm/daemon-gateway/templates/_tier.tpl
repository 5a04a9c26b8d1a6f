{{/*
How many pods there are, where an autoscaler takes over from the chart, ours or one of your own (replicas: null): a number that the chart once set must stay, because Kubernetes
reads a number that is taken out as 1, and would stop all other pods before the autoscaler notices. Nothing for an autoscaler that was there
from the start: then helm rollback does not bring back the number of another day. Takes (list root tier).
*/}}
{{- define "gateway.keptReplicas" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "gateway.fullname" $root) (index . 1) -}}
{{- $found := lookup "apps/v1" "Deployment" (include "gateway.namespace" $root) $name -}}
{{- if $found -}}
{{- $new := not (lookup "autoscaling/v2" "HorizontalPodAutoscaler" (include "gateway.namespace" $root) $name) -}}
{{- if or $new (eq (dig "metadata" "annotations" "daemon-gateway/replicas" "" $found) "kept") -}}
{{ int $found.spec.replicas }}
{{- end -}}
{{- end -}}
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

{{/* The container of a tier; takes (list root tier program). */}}
{{- define "gateway.tierContainer" -}}
{{- $root := index . 0 -}}
{{- $tier := index . 1 -}}
{{- $named := list $root $tier -}}
name: {{ $tier }}
image: {{ include "gateway.ownImage" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
command: [/{{ index . 2 }}]
envFrom:
  - configMapRef: {name: {{ include "gateway.fullname" $root }}-{{ $tier }}}
env:
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- if ne $tier "bridge" }}
  - name: GOSSIP_ADVERTISE_ADDR
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  {{- end }}
ports:
  {{- if eq $tier "edge" }}
  - {name: daemons, containerPort: 8080}
  {{- end }}
  {{- if and (eq $tier "bridge") $root.Values.intake.enabled }}
  - {name: intake, containerPort: 8081}
  {{- end }}
  - {name: admin, containerPort: 9090}
  {{- if ne $tier "bridge" }}
  - {name: gossip, containerPort: 7946}
  - {name: gossip-udp, containerPort: 7946, protocol: UDP}
  {{- end }}
# The process answers. Waiting for NATS, Redis or the log is no reason to restart it.
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
# It does its work: all it needs is there, and it is not draining.
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 3
{{- with include "gateway.preStopSeconds" $named | int }}
# The endpoint is gone from the Service at the same moment; load balancers need some seconds to learn of it.
lifecycle:
  preStop:
    sleep: {seconds: {{ . }}}
{{- end }}
volumeMounts:
  {{- include "gateway.secretMounts" $named | nindent 2 }}
  {{- if and (eq $tier "edge") $root.Values.edge.tlsSecret }}
  - {name: tls, mountPath: /etc/daemon-gateway/tls, readOnly: true}
  {{- end }}
{{- end -}}

{{/* The volumes of a tier; takes (list root tier). */}}
{{- define "gateway.tierVolumes" -}}
{{ include "gateway.secretVolumes" . }}
{{- if eq (index . 1) "edge" }}
{{- with (index . 0).Values.edge.tlsSecret }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The Deployment of a tier; takes (list root tier program).

A rollout adds one pod, waits until it is ready and a while longer, and only then stops an old one. "A while" is the time that an
old pod takes to stop: Kubernetes would not wait for that by itself, and empty one edge after another within seconds, so that
their daemons would all reconnect at once.
*/}}
{{- define "gateway.tier" -}}
{{- $root := index . 0 -}}
{{- $tier := index . 1 -}}
{{- $named := list $root $tier -}}
{{- $values := index $root.Values $tier -}}
{{- $grace := include "gateway.graceSeconds" $named | int -}}
{{- $scaled := ($values.autoscaling).enabled -}}
{{- $others := or $scaled (kindIs "invalid" $values.replicas) -}}
{{- $kept := "" -}}
{{- if $others -}}{{- $kept = include "gateway.keptReplicas" $named -}}{{- end -}}
{{- $gossips := ternary (dict) (dict "daemon-gateway/gossip" "true") (eq $tier "bridge") -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "gateway.workloadMetadata" (dict "root" $root "component" $tier "annotations" (ternary (dict "daemon-gateway/replicas" "kept") (dict) (ne $kept ""))) | nindent 2 }}
spec:
  {{- if or $kept (not $others) }}
  replicas: {{ default $values.replicas $kept }}
  {{- end }}
  revisionHistoryLimit: 5
  minReadySeconds: {{ $grace }}
  progressDeadlineSeconds: {{ add 600 $grace }}
  strategy:
    {{- default (dict "type" "RollingUpdate" "rollingUpdate" (dict "maxSurge" 1 "maxUnavailable" 0)) $values.strategy | toYaml | nindent 4 }}
  selector:
    matchLabels:
      {{- include "gateway.selector" $named | nindent 6 }}
  template:
    {{- include "gateway.podTemplate" (dict
      "root" $root "component" $tier
      "labels" $gossips
      "annotations" (dict "checksum/settings" (include "gateway.settings" $named | sha256sum))
      "container" (include "gateway.tierContainer" . | fromYaml)
      "volumes" (include "gateway.tierVolumes" $named | fromYamlArray)
      "spread" (include "gateway.spread" $named)
      "graceSeconds" $grace) | nindent 4 }}
{{- end -}}
