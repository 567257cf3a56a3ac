{{/* What tells the hosted upstream's Pod, and those of its Jobs, from others. */}}
{{- define "syncline.upstreamSelector" -}}
app.kubernetes.io/name: syncline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: upstream
{{- end }}

{{- define "syncline.upstreamLabels" -}}
{{ include "syncline.upstreamSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: syncline
{{- end }}

{{- define "syncline.upstreamJobLabels" -}}
app.kubernetes.io/name: syncline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: upstream-job
{{- end }}

{{/* Pod of a Job that makes or renews the Secrets. */}}
{{- define "syncline.certificatesPod" -}}
metadata:
  labels: {{- include "syncline.upstreamJobLabels" . | nindent 4 }}
spec:
  restartPolicy: OnFailure
  serviceAccountName: syncline-upstream-certificates
  enableServiceLinks: false
  securityContext: {{- include "syncline.podSecurity" . | nindent 4 }}
  {{- include "syncline.upstreamPlacing" . | nindent 2 }}
  containers:
  - name: certificates
    image: {{ include "syncline.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    securityContext: {{- include "syncline.containerSecurity" . | nindent 6 }}
    args:
    - upstream
    - certificates
    - --namespace={{ .Release.Namespace }}
    {{- range .Values.upstream.hosted.names }}
    - --name={{ . }}
    {{- end }}
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {memory: 256Mi}
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
    - {name: tmp, mountPath: /tmp}
  volumes:
  - name: tmp
    emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end }}

{{/* Where the Pods may run, as the operator's. */}}
{{- define "syncline.upstreamPlacing" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* Bytes that etcd may take of a disk of the size: three quarters, at most the 8 GiB that it is made for. What is beyond
     its quota is refused with an alarm; a full disk ends it. */}}
{{- define "syncline.etcdQuota" -}}
{{- $unit := get (dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776) (regexFind "[MGT]i$" .) -}}
{{- min 8589934592 (mulf (regexFind "^[0-9.]+" .) $unit 0.75 | int64) -}}
{{- end }}
