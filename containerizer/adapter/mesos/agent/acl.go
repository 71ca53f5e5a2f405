package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Actions, by the names that they have in Mesos's --acls.
const (
	actLaunchNested            = "launch_nested_containers_as_user"
	actLaunchNestedUnder       = "launch_nested_containers_under_parent_with_user"
	actLaunchSession           = "launch_nested_container_sessions_as_user"
	actLaunchSessionUnder      = "launch_nested_container_sessions_under_parent_with_user"
	actWaitNested              = "wait_nested_containers"
	actKillNested              = "kill_nested_containers"
	actRemoveNested            = "remove_nested_containers"
	actAttachInput             = "attach_containers_input"
	actAttachOutput            = "attach_containers_output"
	actLaunchStandalone        = "launch_standalone_containers"
	actWaitStandalone          = "wait_standalone_containers"
	actKillStandalone          = "kill_standalone_containers"
	actRemoveStandalone        = "remove_standalone_containers"
	actViewContainers          = "view_containers"
	actViewStandalone          = "view_standalone_containers"
	actPruneImages             = "prune_images"
	actAccessSandboxes         = "access_sandboxes"
	actSetLogLevel             = "set_log_level"
	actViewFlags               = "view_flags"
	permissive                 = "permissive"
	principals                 = "principals"
	anyone, nobody, somebodies = "ANY", "NONE", "SOME"
)

func actions() []string {
	return []string{
		actLaunchNested, actLaunchNestedUnder, actLaunchSession, actLaunchSessionUnder, actWaitNested, actKillNested, actRemoveNested,
		actAttachInput, actAttachOutput, actLaunchStandalone, actWaitStandalone, actKillStandalone, actRemoveStandalone,
		actViewContainers, actViewStandalone, actPruneImages, actAccessSandboxes, actSetLogLevel, actViewFlags,
	}
}

// ACLs say what principals may do. Nil ones let everybody do everything.
type ACLs struct {
	permissive bool // what no rule speaks of may be done
	rules      map[string][]rule
}

// rule lets some principals do something to some objects, or forbids it.
type rule struct{ subjects, objects entity }

// entity is a set of names.
type entity struct {
	Type   string   `json:"type"`
	Values []string `json:"values"`
}

// matches says whether the rule speaks of name; of an entity NONE it does, to forbid.
func (e *entity) matches(name string) bool {
	return e.Type != somebodies || name != "" && slices.Contains(e.Values, name)
}

// NewACLs reads the file of Mesos's --acls: "permissive", and by the name of an action
// a list of rules. A rule has "principals" and one more entity, whatever it is called.
// An action that berth does not have is an error. Errors: ErrInvalid.
func NewACLs(file []byte) (*ACLs, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(file, &raw); err != nil {
		return nil, fmt.Errorf("ACLs: %w: %w", err, containerizer.ErrInvalid)
	}
	a := &ACLs{permissive: true, rules: map[string][]rule{}}
	for name, value := range raw {
		if name == permissive {
			if err := json.Unmarshal(value, &a.permissive); err != nil {
				return nil, fmt.Errorf("ACLs: %q: %w: %w", name, err, containerizer.ErrInvalid)
			}
			continue
		}
		if !slices.Contains(actions(), name) {
			return nil, invalid("ACLs: there is no action %q (there are %s)", name, strings.Join(actions(), ", "))
		}
		rules, err := readRules(value)
		if err != nil {
			return nil, fmt.Errorf("ACLs: %q: %w", name, err)
		}
		a.rules[name] = rules
	}
	return a, nil
}

func readRules(value json.RawMessage) ([]rule, error) {
	var list []map[string]entity
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
	}
	var rules []rule
	for i, entry := range list {
		if len(entry) != 2 {
			return nil, invalid("rule %d does not consist of %q and one more entity", i, principals)
		}
		var r rule
		for name, e := range entry {
			switch e.Type {
			case anyone, nobody:
			case "", somebodies:
				e.Type = somebodies
			default:
				return nil, invalid("rule %d: %q is of type %q (there are %s, %s and %s)", i, name, e.Type, anyone, nobody, somebodies)
			}
			if name == principals {
				r.subjects = e
			} else {
				r.objects = e
			}
		}
		if r.subjects.Type == "" || r.objects.Type == "" {
			return nil, invalid("rule %d has no %q", i, principals)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// allows says whether the principal called name may do action to object. The first
// rule that speaks of both decides.
func (a *ACLs) allows(name, action, object string) bool {
	if a == nil {
		return true
	}
	for _, r := range a.rules[action] {
		if r.subjects.matches(name) && r.objects.matches(object) {
			return r.subjects.Type != nobody && r.objects.Type != nobody
		}
	}
	return a.permissive
}

// permit refuses what the caller may not do. id is the container that it is about; ""
// is none. Who holds a token for a container may do all to what is nested in it.
func (s *Server) permit(caller *principal, id containerizer.ContainerID, action, object string) error {
	if caller.container != "" {
		if id != "" && id.HasAncestor(caller.container) {
			return nil
		}
	} else if s.o.ACLs.allows(caller.name, action, object) {
		return nil
	}
	return fmt.Errorf("%s: %w", action, containerizer.ErrPermission)
}
