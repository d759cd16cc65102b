{{- define "tiercel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* 50 characters leave room for the longest suffix of an object's name. */}}
{{- define "tiercel.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "tiercel.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tiercel.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tiercel.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tiercel.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tiercel.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "tiercel.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: tiercel
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tiercel.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tiercel.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is required when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tiercel.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- $name := ternary .Values.image.repository (printf "%s/%s" $registry .Values.image.repository) (empty $registry) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Image of the pods that hold room for bursts. */}}
{{- define "tiercel.placeholderImage" -}}
{{- $image := .Values.warmBuffer.image -}}
{{- $registry := default $image.registry .Values.global.imageRegistry -}}
{{- $name := ternary $image.repository (printf "%s/%s" $registry $image.repository) (empty $registry) -}}
{{- printf "%s:%s" $name $image.tag -}}
{{- end -}}

{{/* What the operator may do in every namespace that it serves: one list for the ClusterRole and for the Roles. */}}
{{- define "tiercel.namespacedRules" -}}
- apiGroups: [tiercel.dev]
  resources: [tieredpipelines]
  verbs: [get, list, watch]
- apiGroups: [tiercel.dev]
  resources: [tieredpipelines/status]
  verbs: [get, patch]
{{- if .Values.rbac.blockOwnerDeletion }}
- apiGroups: [tiercel.dev]
  resources: [tieredpipelines/finalizers]
  verbs: [update]
{{- end }}
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.gatewayAPI.enabled }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
- apiGroups: [metrics.k8s.io]
  resources: [pods]
  verbs: [get, list]
{{- $custom := list }}
{{- range .Values.sources.customMetrics }}
{{- $custom = append $custom (printf "pods/%s" .metric) }}
{{- end }}
{{- if $custom }}
- apiGroups: [custom.metrics.k8s.io]
  resources: {{ $custom | uniq | sortAlpha | toJson }}
  verbs: [get, list]
{{- end }}
{{- $external := list }}
{{- range .Values.sources.externalMetrics }}
{{- $external = append $external .metric }}
{{- end }}
{{- if $external }}
- apiGroups: [external.metrics.k8s.io]
  resources: {{ $external | uniq | sortAlpha | toJson }}
  verbs: [get, list]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What is read cluster-wide in both scopes. Pods of others included: they take capacity wherever they live. */}}
{{- define "tiercel.clusterRules" -}}
- apiGroups: [tiercel.dev]
  resources: [computepools]
  verbs: [get, list, watch]
- apiGroups: [tiercel.dev]
  resources: [computepools/status]
  verbs: [get, patch]
- apiGroups: [""]
  resources: [namespaces, nodes, pods]
  verbs: [get, list, watch]
{{- end -}}
