{{- define "detector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* A pod's name ends in its number, and is the name of a label's value: 63 characters with it. */}}
{{- define "detector.fullname" -}}
{{- $name := include "detector.name" . -}}
{{- default (ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name)) .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "detector.selectorLabels" -}}
app.kubernetes.io/name: {{ include "detector.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "detector.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "detector.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "detector.serviceAccountName" -}}
{{- default (ternary (include "detector.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "detector.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "detector.port" -}}
{{- dig "http" "port" 9095 .Values.config -}}
{{- end }}

{{- /* What Kubernetes would accept and nobody can want, in words. */}}
{{- define "detector.check" -}}
{{- if not .Values.partitions }}
{{- fail "partitions is missing: say how many partitions the input topic has, such as --set partitions=12" }}
{{- end }}
{{- if not .Values.config.input.topics }}
{{- fail "config.input.topics is missing: say which topics to read" }}
{{- end }}
{{- if not (index .Values.config.kafka "bootstrap.servers") }}
{{- fail "config.kafka has no bootstrap.servers: say where Kafka is, as host:port" }}
{{- end }}
{{- range $name, $value := .Values.config.kafka }}
{{- if regexMatch "password|passphrase|secret|token|jaas|pem|oauthbearer\\.config" $name }}
{{- fail (printf "config.kafka has %s, and a ConfigMap is no place for it: put DETECTOR_KAFKA__%s into a Secret and name that as existingSecret" $name ($name | replace "." "_" | upper)) }}
{{- end }}
{{- end }}
{{- if index .Values.config.kafka "group.instance.id" }}
{{- fail "config.kafka has group.instance.id, which would be the same for all workers: leave it out, it is the pod's name" }}
{{- end }}
{{- $most := ternary (default .Values.partitions .Values.autoscaling.replicasMax) .Values.replicas .Values.autoscaling.enabled }}
{{- if gt (int $most) (int .Values.partitions) }}
{{- fail (printf "%d workers for %d partitions: those beyond %d would have nothing to do; lower %s, or give the topic more partitions" (int $most) (int .Values.partitions) (int .Values.partitions) (ternary "autoscaling.replicasMax" "replicas" .Values.autoscaling.enabled)) }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.replicasMin) (int $most)) }}
{{- fail (printf "autoscaling.replicasMin %d is more than the %d workers there can be" (int .Values.autoscaling.replicasMin) (int $most)) }}
{{- end }}
{{- end }}
