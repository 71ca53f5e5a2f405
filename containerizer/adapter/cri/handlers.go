package cri

import (
	"fmt"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/berth-dev/berth/containerizer"
)

// nativeHandler is a name for the native way, beside "".
const nativeHandler = "berth"

// Handler is an OCI runtime by the name that pods ask for (RuntimeClass.handler).
type Handler struct {
	Name string
	// RecursiveReadOnly says that it can make mounts read-only with all below them.
	RecursiveReadOnly bool
}

// runtimeOf is the engine's name for a handler.
func (s *Server) runtimeOf(handler string) (string, error) {
	if handler == "" || handler == nativeHandler {
		return "", nil
	}
	if s.handler(handler) == nil {
		names := []string{`""`, fmt.Sprintf("%q", nativeHandler)}
		for _, h := range s.o.Handlers {
			names = append(names, fmt.Sprintf("%q", h.Name))
		}
		return "", fmt.Errorf("runtime handler %q is not configured; there are %s: %w", handler, strings.Join(names, ", "), containerizer.ErrNotFound)
	}
	return handler, nil
}

func (s *Server) handler(name string) *Handler {
	i := slices.IndexFunc(s.o.Handlers, func(h Handler) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return &s.o.Handlers[i]
}

// handlers are all of them, with what each can do, always in the same order.
func (s *Server) handlers() []*runtimeapi.RuntimeHandler {
	f := s.o.Node.Features()
	var list []*runtimeapi.RuntimeHandler
	for _, native := range []string{"", nativeHandler} {
		list = append(list, &runtimeapi.RuntimeHandler{Name: native, Features: &runtimeapi.RuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: f.RecursiveReadOnly, UserNamespaces: f.UserNamespaces,
		}})
	}
	for _, h := range s.o.Handlers {
		list = append(list, &runtimeapi.RuntimeHandler{Name: h.Name, Features: &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: h.RecursiveReadOnly}})
	}
	return list
}

// checkHandler refuses what the pod's handler cannot do for a container.
func (s *Server) checkHandler(runtime string, mounts []*runtimeapi.Mount) error {
	h := s.handler(runtime)
	if h == nil || h.RecursiveReadOnly {
		return nil
	}
	for _, m := range mounts {
		if m.GetRecursiveReadOnly() {
			return fmt.Errorf("%w: mount on %q: runtime handler %q knows no recursively read-only mounts: %w", crierrors.ErrRROUnsupported, m.GetContainerPath(), h.Name, containerizer.ErrUnsupported)
		}
	}
	return nil
}
