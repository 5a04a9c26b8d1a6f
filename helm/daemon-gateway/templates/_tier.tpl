{{/*
How many pods there are, where an autoscaler takes over from the chart: a number that the chart once set must stay, because Kubernetes
reads a number that is taken out as 1, and would stop all other pods before the autoscaler notices. Nothing for an autoscaler that was there
from the start: then helm rollback does not bring back the number of another day. Takes (list root tier).
*/}}
{{- define "gateway.keptReplicas" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "gateway.fullname" $root) (index . 1) -}}
{{- $found := lookup "apps/v1" "Deployment" $root.Release.Namespace $name -}}
{{- if $found -}}
{{- $new := not (lookup "autoscaling/v2" "HorizontalPodAutoscaler" $root.Release.Namespace $name) -}}
{{- if or $new (eq (dig "metadata" "annotations" "daemon-gateway/replicas" "" $found) "kept") -}}
{{ int $found.spec.replicas }}
{{- end -}}
{{- end -}}
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
{{- $program := index . 2 -}}
{{- $named := list $root $tier -}}
{{- $values := index $root.Values $tier -}}
{{- $preStop := include "gateway.preStopSeconds" $named | int -}}
{{- $grace := include "gateway.graceSeconds" $named | int -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "gateway.fullname" $root }}-{{ $tier }}
  labels:
    {{- include "gateway.labels" $named | nindent 4 }}
  {{- $scaled := dig "autoscaling" "enabled" false $values }}
  {{- $kept := ternary (include "gateway.keptReplicas" $named) "" $scaled }}
  {{- if $kept }}
  annotations:
    daemon-gateway/replicas: kept
  {{- end }}
spec:
  {{- if or $kept (not $scaled) }}
  replicas: {{ default $values.replicas $kept }}
  {{- end }}
  revisionHistoryLimit: 5
  minReadySeconds: {{ $grace }}
  progressDeadlineSeconds: {{ add 600 $grace }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "gateway.selector" $named | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "gateway.selector" $named | nindent 8 }}
        {{- if ne $tier "bridge" }}
        daemon-gateway/gossip: "true"
        {{- end }}
      annotations:
        checksum/settings: {{ include "gateway.settings" $named | sha256sum }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "gateway.fullname" $root }}-{{ $tier }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      terminationGracePeriodSeconds: {{ $grace }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      securityContext:
        {{- include "gateway.podSecurity" $root | nindent 8 }}
      containers:
        - name: {{ $tier }}
          image: {{ include "gateway.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [/{{ $program }}]
          securityContext:
            {{- include "gateway.containerSecurity" $root | nindent 12 }}
          envFrom:
            - configMapRef: {name: {{ include "gateway.fullname" $root }}-{{ $tier }}}
          env:
            - name: NODE_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- if ne $tier "bridge" }}
            - name: GOSSIP_ADVERTISE_ADDR
              valueFrom: {fieldRef: {fieldPath: status.podIP}}
            {{- end }}
            {{- with include "gateway.goMemoryLimit" (dig "limits" "memory" "" $values.resources) }}
            - name: GOMEMLIMIT
              value: {{ . | quote }}
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
          {{- if $preStop }}
          # The endpoint is gone from the Service at the same moment; load balancers need some seconds to learn of it.
          lifecycle:
            preStop:
              sleep: {seconds: {{ $preStop }}}
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            {{- if include "gateway.secretSources" $named | trim }}
            - {name: secrets, mountPath: {{ include "gateway.secretsPath" $root }}, readOnly: true}
            {{- end }}
            {{- if eq $tier "edge" }}
            {{- with $values.tlsSecret }}
            - {name: tls, mountPath: /etc/daemon-gateway/tls, readOnly: true}
            {{- end }}
            {{- end }}
      volumes:
        {{- with include "gateway.secretSources" $named | trim }}
        - name: secrets
          projected:
            defaultMode: 0440
            sources:
              {{- . | nindent 14 }}
        {{- end }}
        {{- if eq $tier "edge" }}
        {{- with $values.tlsSecret }}
        - name: tls
          secret: {secretName: {{ . }}, defaultMode: 0440}
        {{- end }}
        {{- end }}
      topologySpreadConstraints:
        {{- include "gateway.spread" $named | trim | nindent 8 }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}
