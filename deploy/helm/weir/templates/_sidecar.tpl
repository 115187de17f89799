{{- /* Weir as a native sidecar: an item of a pod's `initContainers`. It is up before the application and ends after it. */}}
{{- define "weir.sidecar" -}}
{{- $sidecar := .Values.sidecar -}}
- name: weir
  image: {{ include "weir.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  env:
    # Only this pod may use the proxy; probes and Prometheus come from outside.
    - name: WEIR_SERVER__LISTEN
      value: 127.0.0.1:8080
    - name: WEIR_ADMIN__LISTEN
      value: 0.0.0.0:8081
    # The replicas share one key: each takes its part of the limits. Change it together with their number.
    - name: WEIR_LIMITS__SHARE
      value: {{ $sidecar.share | quote }}
    # Bodies that wait, together half of the memory limit below.
    - name: WEIR_REPLAY__MAX_TOTAL
      value: 64MiB
    - name: WEIR_SERVER__MAX_BUFFERED_BYTES
      value: 64MiB
    # The application has ended when this container is told to: nobody is left to be turned elsewhere.
    - name: WEIR_SHUTDOWN__DRAIN_DELAY
      value: 0s
    - name: WEIR_SHUTDOWN__DRAIN_TIMEOUT
      value: {{ $sidecar.drainTimeout }}s
    {{- range $name, $value := .Values.settings }}
    - name: {{ $name }}
      value: {{ $value | quote }}
    {{- end }}
  ports:
    - name: admin
      containerPort: 8081
  startupProbe:
    httpGet: {path: /readyz, port: admin}
    periodSeconds: 1
    failureThreshold: 30
  livenessProbe:
    httpGet: {path: /livez, port: admin}
    periodSeconds: 10
    timeoutSeconds: 2
  # No readiness probe: a sidecar that drains must not take its application out of service.
  resources:
    {{- toYaml $sidecar.resources | nindent 4 }}
  securityContext:
    runAsUser: 65532
    runAsGroup: 65532
    {{- include "weir.security" . | nindent 4 }}
{{- end }}
