{{/* Rules of the NetworkPolicies. */}}

{{- define "gateway.dnsRule" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - {port: {{ include "gateway.scalar" . }}, protocol: UDP}
    - {port: {{ include "gateway.scalar" . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.dnsTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Gossip among edges and routers; takes (list root "from"|"to"). */}}
{{- define "gateway.gossipRule" -}}
{{- $root := index . 0 -}}
- ports: [{port: 7946, protocol: TCP}, {port: 7946, protocol: UDP}]
  {{ index . 1 }}:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ $root.Chart.Name }}
          app.kubernetes.io/instance: {{ $root.Release.Name }}
          daemon-gateway/gossip: "true"
{{- end -}}

{{/* To a server of the chart, or to one elsewhere; takes (list root server itsPort ports peers). */}}
{{- define "gateway.egressRule" -}}
{{- $root := index . 0 -}}
{{- $server := index . 1 -}}
{{- if (index $root.Values $server).enabled -}}
- ports: [{port: {{ index . 2 }}, protocol: TCP}]
  to:
    - podSelector:
        matchLabels:
          {{- include "gateway.selector" (list $root $server) | nindent 10 }}
{{- else -}}
{{ include "gateway.peersRule" (list (index . 3) (index . 4)) }}
{{- end -}}
{{- end -}}

{{/* To ports of some peers, or of any address; takes (list ports peers). */}}
{{- define "gateway.peersRule" -}}
- ports:
    {{- range index . 0 }}
    - {port: {{ include "gateway.scalar" . }}, protocol: TCP}
    {{- end }}
  {{- with index . 1 }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Who may use a server of the chart; takes (list root server port peers components). It needs nobody. */}}
{{- define "gateway.serverPolicy" -}}
{{- $root := index . 0 -}}
{{- $server := index . 1 -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "gateway.metadata" (dict "root" $root "component" $server) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "gateway.selector" (list $root $server) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports: [{port: {{ index . 2 }}, protocol: TCP}]
      from:
        {{- range index . 4 }}
        - podSelector:
            matchLabels:
              {{- include "gateway.selector" (list $root .) | nindent 14 }}
        {{- end }}
        {{- with index . 3 }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
