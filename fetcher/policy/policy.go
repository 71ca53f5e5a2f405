package policy

import (
	"fmt"
	"strings"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

// Policy says which registries may be pulled from. The zero value is Docker's:
// everything, and docker.io for names without a registry.
type Policy struct {
	// Unqualified are the registries that a name without one is looked for in, in
	// order; nil is docker.io.
	Unqualified []string
	// RefuseUnqualified refuses such names.
	RefuseUnqualified bool
	// Allow and Block are patterns of registries and repositories: "quay.io",
	// "quay.io/team", "*.example.com". What Block matches is refused, and what Allow
	// does not match, unless Allow is empty.
	Allow, Block []string
	// From is what errors call the place where this is configured.
	From string
}

// Names returns what a reference may mean, in the order in which it is tried.
func (p *Policy) Names(ref string) ([]reference.Reference, error) {
	r, err := reference.Parse(ref)
	if err != nil {
		return nil, err
	}
	rest, short := reference.Unqualified(ref)
	switch {
	case !short || !p.RefuseUnqualified && p.Unqualified == nil:
		return []reference.Reference{r}, nil
	case p.RefuseUnqualified:
		return nil, fmt.Errorf("image reference %q names no registry, and that is refused here (registries.unqualified in %s); write for example %q: %w",
			ref, p.From, r, containerizer.ErrPermission)
	}
	out := make([]reference.Reference, len(p.Unqualified))
	for i, registry := range p.Unqualified {
		if out[i], err = reference.Parse(registry + "/" + rest); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Search is Names in the form of containerizer.Searcher.
func (p *Policy) Search(ref string) (names []string, local bool, err error) {
	all, err := p.Names(ref)
	if err != nil {
		return nil, false, err
	}
	for _, r := range all {
		names = append(names, r.String())
	}
	return names, all[0].IsPath(), nil
}

// Check refuses what must not be pulled.
func (p *Policy) Check(r reference.Reference) error {
	for _, pattern := range p.Block {
		if matches(pattern, r) {
			return fmt.Errorf("image %q: %q is blocked (registries.block in %s): %w", r, pattern, p.From, containerizer.ErrPermission)
		}
	}
	for _, pattern := range p.Allow {
		if matches(pattern, r) {
			return nil
		}
	}
	if len(p.Allow) > 0 {
		return fmt.Errorf("image %q is of none of the registries that are allowed (registries.allow in %s): %w", r, p.From, containerizer.ErrPermission)
	}
	return nil
}

// matches compares registry and leading elements of the repository. Registries
// are compared as DNS does, whatever the case.
func matches(pattern string, r reference.Reference) bool {
	registry, repository, _ := strings.Cut(pattern, "/")
	domain := strings.ToLower(r.Domain)
	registry = strings.ToLower(registry)
	if suffix, ok := strings.CutPrefix(registry, "*."); ok {
		if !strings.HasSuffix(domain, "."+suffix) {
			return false
		}
	} else if domain != registry {
		return false
	}
	return repository == "" || r.Repository == repository || strings.HasPrefix(r.Repository, repository+"/")
}

// CheckPattern says what is wrong with a pattern of Allow or Block.
func CheckPattern(pattern string) error {
	registry, repository, hasRepository := strings.Cut(pattern, "/")
	registry = strings.TrimPrefix(registry, "*.")
	if !hasRepository {
		repository = "x"
	}
	if r, err := reference.Parse(registry + "/" + repository); err != nil || !strings.EqualFold(r.Domain, registry) || strings.ContainsAny(repository, ":@") {
		return fmt.Errorf("%q is not of the form registry[/repository], with a registry such as \"quay.io\", \"localhost:5000\" or \"*.example.com\": %w", pattern, containerizer.ErrInvalid)
	}
	return nil
}

// CheckRegistry says what is wrong with a registry of Unqualified.
func CheckRegistry(registry string) error {
	if strings.ContainsAny(registry, "/*") {
		return fmt.Errorf("%q is not a registry such as \"quay.io\": %w", registry, containerizer.ErrInvalid)
	}
	return CheckPattern(registry)
}
