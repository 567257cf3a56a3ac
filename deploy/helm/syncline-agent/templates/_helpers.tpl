{{- define "syncline-agent.selector" -}}
app.kubernetes.io/name: syncline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end }}

{{- define "syncline-agent.labels" -}}
{{ include "syncline-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: syncline
{{- end }}

{{- define "syncline-agent.image" -}}
{{- $name := printf "%s%s" (ternary (printf "%s/" .Values.image.registry) "" (ne .Values.image.registry "")) .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{ $name }}@{{ .Values.image.digest }}
{{- else -}}
{{ $name }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What must be given, with what to do about it. */}}
{{- define "syncline-agent.check" -}}
{{- $missing := list -}}
{{- if not .Values.hub.url }}{{ $missing = append $missing "hub.url" }}{{ end -}}
{{- if not .Values.hub.caHash }}{{ $missing = append $missing "hub.caHash" }}{{ end -}}
{{- if not .Values.target }}{{ $missing = append $missing "target" }}{{ end -}}
{{- if and (not .Values.token) (not .Values.tokenSecret.name) .Release.IsInstall }}{{ $missing = append $missing "token (or tokenSecret.name)" }}{{ end -}}
{{- if $missing }}{{ fail (printf "needed: %s. Upstream, `syncline token create NAME` prints them" (join ", " $missing)) }}{{ end -}}
{{- if and .Values.token .Values.tokenSecret.name }}{{ fail "token and tokenSecret.name: give one of them" }}{{ end -}}
{{- end }}

{{/* The policy, as YAML: that of the values, else files/policy.yaml with what the values change of it. */}}
{{- define "syncline-agent.policy" -}}
{{- if .Values.policy -}}
{{ toYaml .Values.policy }}
{{- else -}}
{{- $policy := .Files.Get "files/policy.yaml" | fromYaml -}}
{{- $synced := index $policy.sync 0 -}}
{{- $deny := without .Values.accept.deny "namespaces" -}}
{{- $accepted := list -}}
{{- range $kind := concat $synced.resources .Values.accept.allow | uniq -}}
{{- $group := regexReplaceAll "^[^.]*" $kind "" -}}
{{- if and (hasPrefix "*" $kind) (not (has $kind $deny)) -}}
{{- range $deny }}{{ if eq $group (regexReplaceAll "^[^.]*" . "") }}{{ fail (printf "accept.deny: %s is one of accept.allow %s, and a role cannot leave it out: allow the kinds by name" . $kind) }}{{ end }}{{ end -}}
{{- end -}}
{{- if and (not (has $kind $deny)) (or (eq $kind "namespaces") (not (has (printf "*%s" $group) $deny))) }}{{ $accepted = append $accepted $kind }}{{ end -}}
{{- end -}}
{{- $_ := set $synced "resources" $accepted -}}
{{- $rules := list -}}
{{- range $policy.people.rules }}{{ if or $.Values.people.channels (not (has "pods/exec" .resources)) }}{{ $rules = append $rules . }}{{ end }}{{ end -}}
{{- if not .Values.people.enabled }}{{ $rules = list }}{{ end -}}
{{- $_ := set $policy.people "rules" $rules -}}
{{- with .Values.people.groups }}{{ $_ := set $policy.people "groups" . }}{{ end -}}
{{- with .Values.people.users }}{{ $_ := set $policy.people "users" . }}{{ end -}}
{{ toYaml $policy }}
{{- end -}}
{{- end }}

{{/* The rules of the ClusterRole that a policy takes, as `syncer.agent.role.agent_role` makes them. */}}
{{- define "syncline-agent.rules" -}}
{{- $policy := include "syncline-agent.policy" . | fromYaml -}}
{{- range $rule := $policy.sync }}
{{- $groups := dict }}
{{- range $pattern := $rule.resources }}
{{- $parts := splitn "/" 2 $pattern }}
{{- $kind := splitn "." 2 $parts._0 }}
{{- $group := $kind._1 | default "" }}
{{- $name := $kind._0 }}
{{- if $parts._1 }}{{ $name = printf "%s/%s" $name $parts._1 }}{{ end }}
{{- $_ := set $groups $group (append (get $groups $group | default list) $name) }}
{{- end }}
{{- range $group, $names := $groups }}
- apiGroups: [{{ $group | quote }}]
  resources: {{ toJson $names }}
  verbs: {{ toJson $rule.verbs }}
{{- end }}
{{- end }}
{{- $people := $policy.people | default dict }}
{{- if $people.rules }}
{{- $users := $people.users | default (list "*") }}
- apiGroups: [""]
  resources: [users]
  {{- if not (regexMatch "[*?\\[]" (join "" $users)) }}
  resourceNames: {{ sortAlpha $users | toJson }}
  {{- end }}
  verbs: [impersonate]
- apiGroups: [""]
  resources: [groups]
  resourceNames: {{ append ($people.groups | default list) "system:authenticated" | uniq | sortAlpha | toJson }}
  verbs: [impersonate]
{{- $extra := list "authentication.kubernetes.io/credential-id" }}
{{- if hasKey $people "extra" }}{{ $extra = $people.extra }}{{ end }}
{{- $attributes := list "uids" }}
{{- if has "*" $extra }}{{ $attributes = append $attributes "userextras" }}
{{- else }}{{ range sortAlpha $extra }}{{ $attributes = append $attributes (printf "userextras/%s" .) }}{{ end }}{{ end }}
- apiGroups: [authentication.k8s.io]
  resources: {{ toJson $attributes }}
  verbs: [impersonate]
{{- end }}
{{- with $policy.paths }}
- nonResourceURLs: {{ sortAlpha . | toJson }}
  verbs: [get]
{{- end }}
{{- end }}

{{/* Ports that it dials, with commas: those of the values, and those of the URLs. */}}
{{- define "syncline-agent.egressPorts" -}}
{{- $ports := .Values.networkPolicy.egressPorts -}}
{{- range append (splitList "," .Values.hub.url) .Values.proxy.url -}}
{{- $host := get (urlParse .) "host" -}}
{{- if regexMatch ":[0-9]+$" $host }}{{ $ports = append $ports (regexReplaceAll "^.*:" $host "" | int) }}{{ else if $host }}{{ $ports = append $ports (ternary 80 443 (hasPrefix "http:" .)) }}{{ end -}}
{{- end -}}
{{- $numbers := list }}{{ range $ports }}{{ $numbers = append $numbers (. | int) }}{{ end -}}
{{- $numbers | uniq | join "," -}}
{{- end }}
