{{- define "weir.name" -}}
{{- if contains "weir" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-weir{{ end -}}
{{- end }}

{{/* What selects the gateway's pods; a release's own, so that two releases stand side by side. */}}
{{- define "weir.selector" -}}
app.kubernetes.io/name: weir-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "weir.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end }}

{{- define "weir.secret" -}}
{{- if .Values.secret.values }}{{ include "weir.name" . }}-keys{{ else }}{{ .Values.secret.name }}{{ end -}}
{{- end }}

{{- define "weir.replicas" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.maxReplicas }}{{ else }}{{ .Values.gateway.replicas }}{{ end -}}
{{- end }}

{{- define "weir.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
