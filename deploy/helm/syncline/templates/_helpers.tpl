{{/* Labels of everything. */}}
{{- define "syncline.labels" -}}
{{ include "syncline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: syncline
{{- end }}

{{/* What tells the operator's Pods from others. */}}
{{- define "syncline.selector" -}}
app.kubernetes.io/name: syncline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* The image, by digest where there is one. */}}
{{- define "syncline.image" -}}
{{- $name := printf "%s%s" (ternary (printf "%s/" .Values.image.registry) "" (ne .Values.image.registry "")) .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $name }}@{{ .Values.image.digest }}
{{- else -}}
{{ $name }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* https:// URL under which people and agents reach the hub. */}}
{{- define "syncline.hubURL" -}}
{{- .Values.hub.externalURL | default (printf "https://syncline-hub.%s.svc:%v" .Release.Namespace .Values.hub.service.port) | trimSuffix "/" -}}
{{- end }}

{{/* Names for the hub's certificate beside those of its URL and of the replica. */}}
{{- define "syncline.hubNames" -}}
{{- $service := list "syncline-hub" (printf "syncline-hub.%s" .Release.Namespace) (printf "syncline-hub.%s.svc" .Release.Namespace) -}}
{{- if .Values.hub.ingress.enabled -}}
{{- $service = append $service (include "syncline.ingressHost" .) -}}
{{- end -}}
{{- concat $service .Values.hub.names | uniq | join "," -}}
{{- end }}

{{- define "syncline.ingressHost" -}}
{{- $host := .Values.hub.ingress.host | default (regexReplaceAll ":[0-9]+$" (get (urlParse .Values.hub.externalURL) "host") "") -}}
{{- if not $host -}}
{{- fail "hub.ingress.enabled needs a name: set hub.externalURL (https://hub.example.com) or hub.ingress.host" -}}
{{- end -}}
{{- $host -}}
{{- end }}

{{/* Secret and key of the operator's kubeconfig; mode host has none. Mode hosted: templates/upstream makes it. */}}
{{- define "syncline.kubeconfigSecret" -}}
{{- if eq .Values.upstream.mode "external" -}}
{{- required "upstream.mode=external needs upstream.external.kubeconfigSecret.name: a Secret in the release's namespace with a kubeconfig of the upstream cluster" .Values.upstream.external.kubeconfigSecret.name -}}
{{- else if eq .Values.upstream.mode "hosted" -}}
syncline-upstream-operator
{{- end -}}
{{- end }}

{{/* The same for who removes targets. */}}
{{- define "syncline.cleanupSecret" -}}
{{- ternary "syncline-upstream-admin" (include "syncline.kubeconfigSecret" .) (eq .Values.upstream.mode "hosted") -}}
{{- end }}

{{- define "syncline.kubeconfigKey" -}}
{{- ternary .Values.upstream.external.kubeconfigSecret.key "kubeconfig" (eq .Values.upstream.mode "external") -}}
{{- end }}

{{/* auto | off: an external upstream reaches the webhooks only where somebody says how. */}}
{{- define "syncline.webhooks" -}}
{{- if and (eq .Values.upstream.mode "external") (not .Values.webhooks.url) -}}off{{- else -}}{{ .Values.webhooks.mode }}{{- end -}}
{{- end }}

{{/* Every container: PSS restricted, and nothing of the image is written to. */}}
{{- define "syncline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "syncline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Documents of a file of manifests; call with (dict "text" …), gives {items: […]} as YAML. */}}
{{- define "syncline.documents" -}}
items:
{{- range regexSplit "(?m)^---\\s*$" .text -1 }}
{{- $document := fromYaml . }}
{{- if $document.kind }}
- {{ toYaml $document | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end }}

{{/* Proxy variables of the operator, a list of env entries; empty without a proxy. */}}
{{- define "syncline.proxyEnv" -}}
{{- if or .Values.proxy.url .Values.proxy.secret.name }}
- name: HTTPS_PROXY
  {{- if .Values.proxy.secret.name }}
  valueFrom: {secretKeyRef: {name: {{ .Values.proxy.secret.name }}, key: {{ .Values.proxy.secret.key }}}}
  {{- else }}
  value: {{ .Values.proxy.url | quote }}
  {{- end }}
- name: NO_PROXY
  value: {{ concat (list "localhost" "127.0.0.1" "::1" ".svc" ".cluster.local" "$(KUBERNETES_SERVICE_HOST)" "$(POD_IP)") .Values.proxy.noProxy | join "," | quote }}
{{- end }}
{{- end }}

{{- define "syncline.cleanupHook" }}
annotations:
  helm.sh/hook: pre-delete
  helm.sh/hook-weight: {{ . | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "syncline.cleanupLabels" -}}
app.kubernetes.io/name: syncline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: cleanup
{{- end }}

{{/* Ports that it dials, with commas: those of the values, and those of the URLs. */}}
{{- define "syncline.egressPorts" -}}
{{- $ports := .Values.networkPolicy.egressPorts -}}
{{- range list .Values.proxy.url -}}
{{- $host := get (urlParse .) "host" -}}
{{- if regexMatch ":[0-9]+$" $host }}{{ $ports = append $ports (regexReplaceAll "^.*:" $host "" | int) }}{{ else if $host }}{{ $ports = append $ports (ternary 80 443 (hasPrefix "http:" .)) }}{{ end -}}
{{- end -}}
{{- $numbers := list }}{{ range $ports }}{{ $numbers = append $numbers (. | int) }}{{ end -}}
{{- $numbers | uniq | join "," -}}
{{- end }}
