{{/*
Names and labels that several templates share. A name may look like something else, as 2024 and off do: wherever one is written
it is quoted, or YAML would read a number or a truth value.
*/}}

{{- define "dci-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
A Service is named after it, so it is a label of RFC 1035: no dots, and a letter first. A release may be named otherwise: then
the dots are replaced, and its name stands last.
*/}}
{{- define "dci-operator.fullname" -}}
{{- $name := include "dci-operator.name" . }}
{{- $release := .Release.Name | replace "." "-" }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if not (regexMatch "^[a-z]" $release) }}
{{- printf "%s-%s" $name $release | trunc 63 | trimSuffix "-" }}
{{- else if contains $name $release }}
{{- $release | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" $release $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "dci-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "dci-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "dci-operator.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "dci-operator.labels" -}}
helm.sh/chart: {{ include "dci-operator.chart" . }}
{{ include "dci-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Of the pod of `helm test`: not the operator's, or Service and budget would take it for one. */}}
{{- define "dci-operator.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "dci-operator.name" . | trunc 58 | trimSuffix "-") | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The full name with a suffix, at most 63 characters in all: list of the context and the suffix. */}}
{{- define "dci-operator.suffixed" -}}
{{- $suffix := index . 1 }}
{{- printf "%s-%s" (include "dci-operator.fullname" (index . 0) | trunc (int (max 1 (sub 62 (len $suffix)))) | trimSuffix "-") $suffix }}
{{- end }}

{{- define "dci-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "dci-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is required when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "dci-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Names outside the release's own namespace carry it, so that two releases of one name do not share a role. */}}
{{- define "dci-operator.foreignName" -}}
{{- printf "%s:%s" .Release.Namespace (include "dci-operator.fullname" .) }}
{{- end }}

{{/*
The same for what is no role, whose names have no colons, where the namespace is a value: list of the context, the namespace, and
the name that it has in the release's own.
*/}}
{{- define "dci-operator.nameIn" -}}
{{- $own := (index . 0).Release.Namespace }}
{{- eq (index . 1) $own | ternary (index . 2) (printf "%s.%s" $own (index . 2)) }}
{{- end }}

{{/* The volume with the authorities to trust; nothing when there are none. */}}
{{- define "dci-operator.caVolume" -}}
{{- $ca := .Values.caBundle }}
{{- if gt (len (compact (list $ca.pem $ca.configMap.name $ca.secret.name))) 1 }}
{{- fail "caBundle takes one of pem, configMap and secret" }}
{{- end }}
{{- if $ca.pem }}
configMap:
  name: {{ include "dci-operator.suffixed" (list . "ca") | quote }}
  items: [{key: ca.crt, path: ca.crt}]
{{- else if $ca.configMap.name }}
configMap:
  name: {{ $ca.configMap.name | quote }}
  items: [{key: {{ $ca.configMap.key | quote }}, path: ca.crt}]
{{- else if $ca.secret.name }}
secret:
  secretName: {{ $ca.secret.name | quote }}
  items: [{key: {{ $ca.secret.key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
