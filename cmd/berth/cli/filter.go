package cli

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// parseFilters parses "key=value" into values by key; other keys are refused.
func parseFilters(filters []string, known ...string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, invalidf("--filter %q is not KEY=VALUE", f)
		}
		if !slices.Contains(known, key) {
			return nil, invalidf("--filter %q: no key %q (there are %s)", f, key, strings.Join(known, ", "))
		}
		out[key] = append(out[key], value)
	}
	return out, nil
}

// containerTest is one condition on containers.
type containerTest = func(*containerizer.Status) bool

// containerMatcher says which containers filters select: values of one key are
// alternatives, different keys all have to match. Labels all have to match.
func containerMatcher(ctx context.Context, engine containerizer.Engine, filters map[string][]string) (containerTest, error) {
	tests, err := ageTests(ctx, engine, filters)
	if err != nil {
		return nil, err
	}
	for _, v := range filters["exited"] {
		if _, err := strconv.Atoi(v); err != nil {
			return nil, invalidf("--filter exited=%s is not an exit code", v)
		}
	}
	for key, test := range valueTests() {
		if values := filters[key]; len(values) > 0 {
			tests = append(tests, func(s *containerizer.Status) bool {
				return slices.ContainsFunc(values, func(v string) bool { return test(s, v) })
			})
		}
	}
	for _, l := range filters["label"] {
		tests = append(tests, func(s *containerizer.Status) bool { return s.Spec != nil && hasLabel(s.Spec.Labels, l) })
	}
	return func(s *containerizer.Status) bool {
		return !slices.ContainsFunc(tests, func(t containerTest) bool { return !t(s) })
	}, nil
}

// ageTests are for the filters before and since, which name other containers.
func ageTests(ctx context.Context, engine containerizer.Engine, filters map[string][]string) ([]containerTest, error) {
	var tests []containerTest
	for key, sign := range map[string]int{"before": -1, "since": 1} {
		for _, name := range filters[key] {
			id, err := resolve(ctx, engine, name)
			if err != nil {
				return nil, err
			}
			other, err := engine.Status(ctx, id)
			if err != nil {
				return nil, err
			}
			tests = append(tests, func(s *containerizer.Status) bool { return s.CreatedAt.Compare(other.CreatedAt) == sign })
		}
	}
	return tests, nil
}

// valueTests compare a container with the value of a filter.
func valueTests() map[string]func(s *containerizer.Status, v string) bool {
	return map[string]func(*containerizer.Status, string) bool{
		"id":       func(s *containerizer.Status, v string) bool { return strings.HasPrefix(s.ID.String(), v) },
		"name":     func(s *containerizer.Status, v string) bool { return s.Spec != nil && strings.Contains(s.Spec.Name, v) },
		"status":   func(s *containerizer.Status, v string) bool { return string(s.State) == v },
		"ancestor": isOfImage,
		"network":  func(s *containerizer.Status, v string) bool { return slices.Contains(networkNames(s), v) },
		"exited": func(s *containerizer.Status, v string) bool {
			return s.State == containerizer.StateExited && s.Termination != nil && strconv.Itoa(s.Termination.ExitCode) == v
		},
		"volume": func(s *containerizer.Status, v string) bool {
			return s.Spec != nil && slices.ContainsFunc(s.Spec.Mounts, func(m containerizer.Mount) bool {
				return m.Source == v || m.Destination == path.Clean(v)
			})
		},
	}
}

// isOfImage says whether a container was made of the image that name means.
func isOfImage(s *containerizer.Status, name string) bool {
	if name == imageText(s) || name == s.ImageReference || name == s.ImageManifest.String() {
		return true
	}
	repository, tag := splitReference(s.ImageReference)
	want, wantTag := splitReference(name)
	return s.ImageReference != "" && tag == wantTag && (repository == want || familiar(repository) == want)
}

// hasLabel matches "key" or "key=value".
func hasLabel(labels map[string]string, want string) bool {
	key, value, valued := strings.Cut(want, "=")
	got, there := labels[key]
	return there && (!valued || got == value)
}
