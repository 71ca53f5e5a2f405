package containerizer

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	// maxIDElement leaves room for suffixes within NAME_MAX (255), as Mesos does.
	maxIDElement = 242
	// maxIDDepth is the kernel's limit on nested pid and user namespaces
	// (pid_namespaces(7)).
	maxIDDepth = 32
)

// ContainerID names a container by its path in the tree: the elements from the
// root container down, joined by '.'. The empty ID names no container. It is
// comparable; a value from outside comes in through [ParseContainerID] only.
type ContainerID string

// ParseContainerID checks s and returns it as an ID. The error wraps
// [ErrInvalid] and says which element is wrong and why.
func ParseContainerID(s string) (ContainerID, error) {
	elements := strings.Split(s, ".")
	if len(elements) > maxIDDepth {
		return "", fmt.Errorf("container id %q is nested %d deep, at most %d is possible: %w", s, len(elements), maxIDDepth, ErrInvalid)
	}
	for _, e := range elements {
		if err := checkIDElement(e); err != nil {
			return "", fmt.Errorf("container id %q: %w", s, err)
		}
	}
	return ContainerID(s), nil
}

// NewContainerID returns a random root ID of 64 hexadecimal digits, the form
// Docker and Kubernetes tools expect.
func NewContainerID() ContainerID {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return ContainerID(hex.EncodeToString(b[:]))
}

func checkIDElement(e string) error {
	switch {
	case e == "":
		return fmt.Errorf("an element is empty: %w", ErrInvalid)
	case len(e) > maxIDElement:
		return fmt.Errorf("an element has %d bytes, at most %d are possible: %w", len(e), maxIDElement, ErrInvalid)
	}
	for _, r := range e {
		if r <= ' ' || r == '/' || r == '\\' || r == 0x7f || r > 0x7e {
			return fmt.Errorf("element %q holds %q (letters, digits and ASCII punctuation except '/', '\\' and '.' are possible): %w", e, r, ErrInvalid)
		}
	}
	return nil
}

// Child returns the ID of the child called element. The element is checked when
// the result is parsed.
func (id ContainerID) Child(element string) ContainerID {
	return id + "." + ContainerID(element)
}

// Parent returns the ID of the parent, and "" for a root.
func (id ContainerID) Parent() ContainerID {
	if i := strings.LastIndexByte(string(id), '.'); i >= 0 {
		return id[:i]
	}
	return ""
}

// Root returns the ID of the root of id's tree, which is id itself for a root.
func (id ContainerID) Root() ContainerID {
	if i := strings.IndexByte(string(id), '.'); i >= 0 {
		return id[:i]
	}
	return id
}

// IsRoot says whether id names a root container.
func (id ContainerID) IsRoot() bool { return !strings.Contains(string(id), ".") }

// Base returns the last element.
func (id ContainerID) Base() string {
	return string(id[strings.LastIndexByte(string(id), '.')+1:])
}

// HasAncestor says whether ancestor is a proper ancestor of id.
func (id ContainerID) HasAncestor(ancestor ContainerID) bool {
	return ancestor != "" && strings.HasPrefix(string(id), string(ancestor)+".")
}

func (id ContainerID) String() string { return string(id) }

// Short returns the first twelve bytes of a root's ID, as Docker prints IDs, and a
// child's in full.
func (id ContainerID) Short() string {
	if len(id) > 12 && id.IsRoot() {
		return string(id[:12])
	}
	return string(id)
}
