{{/* Names and labels. */}}

{{- define "gateway.fullname" -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- default $release .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{/* Selector labels of a component; takes (list root component). They never change, because selectors cannot. */}}
{{- define "gateway.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object of a component; takes (list root component). */}}
{{- define "gateway.labels" -}}
{{- $root := index . 0 -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "gateway.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{/* The Secrets, made by the chart or existing. */}}
{{- define "gateway.secret.gossip" -}}{{ default (printf "%s-gossip" (include "gateway.fullname" .)) .Values.gossip.existingSecret }}{{- end -}}
{{- define "gateway.secret.jwt" -}}{{ default (printf "%s-jwt" (include "gateway.fullname" .)) .Values.jwt.existingSecret }}{{- end -}}
{{- define "gateway.secret.nats" -}}{{ default (printf "%s-nats" (include "gateway.fullname" .)) .Values.nats.existingSecret }}{{- end -}}
{{- define "gateway.secret.redis" -}}{{ default (printf "%s-redis" (include "gateway.fullname" .)) .Values.redis.existingSecret }}{{- end -}}
{{- define "gateway.secret.intake" -}}{{ default (printf "%s-intake" (include "gateway.fullname" .)) .Values.intake.existingSecret }}{{- end -}}
