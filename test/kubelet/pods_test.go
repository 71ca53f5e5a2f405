package kubelet_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// in is the node as a subtest has it.
func (n *node) in(t *testing.T) *node {
	t.Helper()
	return &node{t, n.machine}
}

// manifest gives the kubelet a pod to run, whose specification is YAML with IMAGE and DIR
// in it for the image and the folder of the node.
func (n *node) manifest(name, spec string) {
	n.Helper()
	spec = strings.NewReplacer("IMAGE", image, "DIR", n.dir, "\t", "  ").Replace(strings.Trim(spec, "\n"))
	n.write("manifests/"+name+".yaml", fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: default, labels: {app: %s}}\nspec:\n%s\n", name, name, spec))
	n.Cleanup(func() {
		_ = os.Remove(n.path("manifests/" + name + ".yaml")) // the test may have removed it
	})
}

// script is the specification of a container that runs a script, with more lines of YAML.
func script(name, text string, more ...string) string {
	return fmt.Sprintf("\t- name: %s\n\t\timage: IMAGE\n\t\tcommand: [sh, -c, %q]\n", name, text) + indented(more)
}

func indented(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("\t\t" + l + "\n")
	}
	return b.String()
}

// remove takes the manifest away; the kubelet removes the pod.
func (n *node) remove(name string) {
	n.Helper()
	if err := os.Remove(n.path("manifests/" + name + ".yaml")); err != nil {
		n.Fatal(err)
	}
}

// await waits until check of a pod returns "".
func (n *node) await(name string, check func(*pod) string) *pod {
	n.Helper()
	var found *pod
	eventually(n.T, func() string {
		pods, err := n.pods()
		if err != nil {
			return err.Error()
		}
		if found = pods[name]; found == nil {
			return "the kubelet does not know the pod " + name
		}
		if what := check(found); what != "" {
			return what + "\n" + found.String()
		}
		return ""
	})
	return found
}

// ready waits until a pod is ready.
func (n *node) ready(name string) *pod {
	n.Helper()
	return n.await(name, func(p *pod) string { return unless(p.ready(), "it is not ready") })
}

func unless(ok bool, text string) string {
	if ok {
		return ""
	}
	return text
}

// sh runs a script in a container and returns what it prints.
func (n *node) sh(pod, container, script string) string {
	n.Helper()
	out, err := n.exec(pod, container, "", "sh", "-c", script)
	if err != nil || out.exitCode() != 0 {
		n.Fatalf("%q in %s of %s: %v, %+v", script, container, pod, err, out)
	}
	return out.stdout
}

// logs are those of a container, by the kubelet's API.
func (n *node) logs(pod, container, query string) string {
	n.Helper()
	text, err := n.get("/containerLogs/default/" + pod + "-node/" + container + query)
	if err != nil {
		n.Fatal(err)
	}
	return text
}

// readFile reads a file that pods share with the node; "" if there is none.
func (n *node) readFile(name string) string {
	b, _ := os.ReadFile(n.path(name))
	return string(b)
}

// want compares.
func (n *node) want(what, got, want string) {
	n.Helper()
	if got != want {
		n.Errorf("%s: got %q, want %q", what, got, want)
	}
}
