package kubelet_test

import "strings"

// podLiveness: who fails is restarted, whichever way is asked.
func podLiveness(n *node) {
	n.manifest("liveness", `
	terminationGracePeriodSeconds: 1
	containers:
`+script("exec", "touch /tmp/ok; sleep 3; rm /tmp/ok; sleep 10000", "livenessProbe: {exec: {command: [test, -e, /tmp/ok]}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}")+
		script("http", "mkdir /tmp/www; echo ok >/tmp/www/healthy; (sleep 3; rm /tmp/www/healthy) & exec httpd -f -p 8080 -h /tmp/www", "livenessProbe: {httpGet: {path: /healthy, port: 8080}, periodSeconds: 1, failureThreshold: 2}")+
		script("tcp", "httpd -f -p 8081 & sleep 3; kill $!; sleep 10000", "livenessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}")+
		script("slow", "sleep 10000", "livenessProbe: {exec: {command: [sleep, '100']}, timeoutSeconds: 1, periodSeconds: 2, failureThreshold: 1}")+
		script("fine", "sleep 10000", "livenessProbe: {exec: {command: ['true']}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}"))
	p := n.await("liveness", func(p *pod) string {
		for _, name := range []string{"exec", "http", "tcp", "slow"} {
			if p.container(name).RestartCount == 0 {
				return name + " is not restarted"
			}
		}
		return ""
	})
	if c := p.container("fine"); c.RestartCount != 0 || c.State.Running == nil {
		n.Errorf("what is alive is %s", c.State)
	}
	n.want("how it ended", p.container("exec").LastState.String(), "terminated: 137 Error: ")
}

// podReadiness: a pod is ready when its containers say so, and no longer when they do not.
func podReadiness(n *node) {
	n.manifest("readiness", `
	containers:
`+script("exec", "sleep 10000", "readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}")+
		script("http", "mkdir /tmp/www; exec httpd -f -p 8080 -h /tmp/www", "readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1, failureThreshold: 1}"))
	isReady := func(exec, http bool) {
		n.Helper()
		n.await("readiness", func(p *pod) string {
			return unless(p.container("exec").Ready == exec && p.container("http").Ready == http && p.ready() == (exec && http) && p.container("http").State.Running != nil, "its readiness is another")
		})
	}
	isReady(false, false)
	n.sh("readiness", "exec", "touch /tmp/ready")
	isReady(true, false)
	n.sh("readiness", "http", "touch /tmp/www/ready")
	isReady(true, true)
	n.sh("readiness", "exec", "rm /tmp/ready")
	isReady(false, true)
}

// podStartup: other probes wait for it, and who does not start in time is restarted.
func podStartup(n *node) {
	n.manifest("startup", `
	terminationGracePeriodSeconds: 1
	containers:
`+script("slow", "sleep 4; touch /tmp/up; sleep 10000", "startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 60}",
		"livenessProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 1}")+
		script("never", "sleep 10000", "startupProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 2}"))
	p := n.await("startup", func(p *pod) string {
		slow := p.container("slow")
		return unless(slow.Started != nil && *slow.Started && p.container("never").RestartCount > 0, "one has not started, or the other is not restarted")
	})
	if c := p.container("slow"); c.RestartCount != 0 {
		n.Errorf("the slow one was restarted: %s", p)
	}
	if c := p.container("never"); c.Started != nil && *c.Started || !strings.HasPrefix(c.LastState.String(), "terminated: 137") {
		n.Errorf("what never starts is %s, before %s", c.State, c.LastState)
	}
}
