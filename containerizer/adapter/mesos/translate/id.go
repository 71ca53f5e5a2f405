package translate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// maxDepth of nesting, as the vocabulary has it: what is deeper is not walked.
const maxDepth = 32

// IDOf is the id of the vocabulary for m. Errors: ErrInvalid.
func IDOf(m *mesosv1.ContainerID) (containerizer.ContainerID, error) {
	var elements []string
	for ; m != nil; m = m.GetParent() {
		if len(elements) == maxDepth {
			return "", invalid("a container id is nested more than %d deep", maxDepth)
		}
		if strings.Contains(m.GetValue(), ".") {
			return "", invalid("container id %.300q holds a '.', which is between ids", m.GetValue())
		}
		elements = append(elements, m.GetValue())
	}
	slices.Reverse(elements)
	return containerizer.ParseContainerID(strings.Join(elements, "."))
}

// IDTo is id in Mesos's form, with all its parents.
func IDTo(id containerizer.ContainerID) *mesosv1.ContainerID {
	m := &mesosv1.ContainerID{Value: new(id.Base())}
	if !id.IsRoot() {
		m.Parent = IDTo(id.Parent())
	}
	return m
}

// invalid is an error of class ErrInvalid.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrInvalid)...)
}
