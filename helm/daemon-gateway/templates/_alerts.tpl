{{/*
The groups of a file of alerts with what the values change of them, without the alerts that are off; takes (list root text). Alerts have
templates of their own in the same brackets, which come through as they are.
*/}}
{{- define "gateway.alertGroups" -}}
{{- $root := index . 0 -}}
{{- $changes := default (dict) $root.Values.monitoring.rules.alerts -}}
{{- $groups := list -}}
{{- range (index . 1 | fromYaml).groups -}}
{{- $alerts := list -}}
{{- range .rules -}}
{{- $change := get $changes .alert | default (dict) -}}
{{- if ne (toString $change.enabled) "false" -}}
{{- $alerts = append $alerts (include "gateway.alert" (list $root . $change) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- if $alerts -}}{{- $groups = append $groups (merge (dict "rules" $alerts) .) -}}{{- end -}}
{{- end -}}
{{- with $groups -}}{{ toYaml . }}{{- end -}}
{{- end -}}

{{/* An alert with a change; takes (list root alert change). */}}
{{- define "gateway.alert" -}}
{{- $root := index . 0 -}}
{{- $alert := deepCopy (index . 1) -}}
{{- $change := index . 2 -}}
{{- $rules := $root.Values.monitoring.rules -}}
{{- if hasKey $alert.annotations "runbook_url" -}}
{{- $_ := set $alert.annotations "runbook_url" (printf "%s%s" (default "" $rules.runbookURL) (lower $alert.alert)) -}}
{{- if not $rules.runbookURL -}}{{- $_ := unset $alert.annotations "runbook_url" -}}{{- end -}}
{{- end -}}
{{- if not (kindIs "invalid" $change.threshold) -}}
{{- $text := get ($root.Files.Get "files/thresholds.yaml" | fromYaml) $alert.alert -}}
{{- if not $text -}}
{{- fail (printf "monitoring.rules.alerts.%s.threshold: its expression has no threshold; give expr instead" $alert.alert) -}}
{{- end -}}
{{- $changed := printf "%s%s" (regexReplaceAll "[0-9.]+$" $text "") (include "gateway.scalar" $change.threshold) -}}
{{- $_ := set $alert "expr" (replace $text $changed $alert.expr) -}}
{{- end -}}
{{- range $field := list "expr" "for" -}}
{{- with get $change $field -}}{{- $_ := set $alert $field . -}}{{- end -}}
{{- end -}}
{{- $labels := merge (dict) (default (dict) $change.labels) (default (dict) $rules.alertLabels) (default (dict) $alert.labels) -}}
{{- $_ := set $alert "labels" (include "gateway.textMap" $labels | fromYaml) -}}
{{- $_ := set $alert "annotations" (merge (dict) (default (dict) $change.annotations) $alert.annotations) -}}
{{ toYaml $alert }}
{{- end -}}

{{/* The names of all alerts, of those of backups as well, as a list. */}}
{{- define "gateway.alertNames" -}}
{{- range $path, $_ := .Files.Glob "files/alerts/*.yaml" }}
{{- range ($.Files.Get $path | fromYaml).groups }}
{{- range .rules }}
- {{ .alert }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
