package launch

import (
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// CompileSandbox makes the program of a pod sandbox without a process: it makes
// and configures the namespaces, and holds until they are kept elsewhere and it is
// killed.
func CompileSandbox(c *Config) (*Program, error) {
	k := &compiler{c: c}
	if err := k.check(); err != nil {
		return nil, err
	}
	k.stdio()
	ns, err := k.planNamespaces()
	if err != nil {
		return nil, err
	}
	k.enterNamespaces(ns)
	k.unshareLate(ns)
	k.becomeRoot(ns)
	k.network()
	if c.Info.Barrier {
		k.step("wait for the isolators that prepare the pod sandbox")
		k.await()
	}
	k.names()
	k.sysctls()
	k.step("hold the namespaces")
	k.hold()
	k.exec = k.Len()
	k.Call(program.OpFail, int(unix.ECANCELED))
	return k.finish()
}
