{{/* What all names begin with: the release's name, with the chart's unless it is in there already. */}}
{{- define "konductor.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "konductor.operator" -}}
{{ include "konductor.fullname" . }}-operator
{{- end }}

{{- define "konductor.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "konductor.operator" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "konductor.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .repository -}}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end }}

{{/* Labels that are the chart's own. */}}
{{- define "konductor.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "konductor.labels" -}}
{{ include "konductor.labelsWith" (dict "root" . "labels" dict) }}
{{- end }}

{{/* The labels of an object that has some of its own: of `root`, with `labels`. No two of the sets have a label in common
(checks.yaml), so that none is there twice. */}}
{{- define "konductor.labelsWith" -}}
{{ include "konductor.ownLabels" .root }}
{{- with merge dict .labels .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What never changes for a release: selectors are immutable. */}}
{{- define "konductor.operatorSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* The operator's variables that the chart sets. */}}
{{- define "konductor.env" -}}
- name: KONDUCTOR_METRICS_ADDR
  value: 0.0.0.0:8080
- name: KONDUCTOR_HEALTH_ADDR
  value: 0.0.0.0:8081
- name: KONDUCTOR_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
# So that the others know when the leader's pod is gone.
- name: KONDUCTOR_IDENTITY
  value: $(POD_NAME)_$(POD_UID)
- name: KONDUCTOR_LOG
  value: {{ .Values.log.level | quote }}
- name: KONDUCTOR_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- end }}
