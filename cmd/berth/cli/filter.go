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

// containerMatcher says which containers filters select: values of one key are
// alternatives, different keys all have to match. Labels all have to match.
func containerMatcher(
	ctx context.Context, engine containerizer.Engine, filters map[string][]string,
) (func(*containerizer.Status) bool, error) {
	var tests []func(*containerizer.Status) bool
	for _, key := range []string{"before", "since"} {
		for _, name := range filters[key] {
			id, err := resolve(ctx, engine, name)
			if err != nil {
				return nil, err
			}
			other, err := engine.Status(ctx, id)
			if err != nil {
				return nil, err
			}
			before := key == "before"
			tests = append(tests, func(s *containerizer.Status) bool {
				return s.CreatedAt.Before(other.CreatedAt) && before || s.CreatedAt.After(other.CreatedAt) && !before
			})
		}
	}
	for _, v := range filters["exited"] {
		if _, err := strconv.Atoi(v); err != nil {
			return nil, invalidf("--filter exited=%s is not an exit code", v)
		}
	}
	any := func(key string, test func(s *containerizer.Status, v string) bool) {
		if values := filters[key]; len(values) > 0 {
			tests = append(tests, func(s *containerizer.Status) bool {
				return slices.ContainsFunc(values, func(v string) bool { return test(s, v) })
			})
		}
	}
	any("id", func(s *containerizer.Status, v string) bool { return strings.HasPrefix(s.ID.String(), v) })
	any("name", func(s *containerizer.Status, v string) bool { return s.Spec != nil && strings.Contains(s.Spec.Name, v) })
	any("status", func(s *containerizer.Status, v string) bool { return string(s.State) == v })
	any("exited", func(s *containerizer.Status, v string) bool {
		return s.State == containerizer.StateExited && s.Termination != nil && strconv.Itoa(s.Termination.ExitCode) == v
	})
	any("ancestor", func(s *containerizer.Status, v string) bool {
		return imageText(s) == v || s.ImageReference == v || strings.HasPrefix(s.ImageReference, v+":") ||
			strings.HasSuffix(strings.TrimSuffix(s.ImageReference, ":latest"), "/"+strings.TrimSuffix(v, ":latest")) ||
			s.ImageManifest.String() == v
	})
	any("volume", func(s *containerizer.Status, v string) bool {
		return s.Spec != nil && slices.ContainsFunc(s.Spec.Mounts, func(m containerizer.Mount) bool {
			return m.Source == v || m.Destination == path.Clean(v)
		})
	})
	any("network", func(s *containerizer.Status, v string) bool { return slices.Contains(networkNames(s), v) })
	for _, l := range filters["label"] {
		tests = append(tests, func(s *containerizer.Status) bool { return s.Spec != nil && hasLabel(s.Spec.Labels, l) })
	}
	return func(s *containerizer.Status) bool {
		for _, t := range tests {
			if !t(s) {
				return false
			}
		}
		return true
	}, nil
}

// hasLabel matches "key" or "key=value".
func hasLabel(labels map[string]string, want string) bool {
	key, value, valued := strings.Cut(want, "=")
	got, there := labels[key]
	return there && (!valued || got == value)
}
