package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
)

// completion is what cobra calls for the arguments of a command.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeContainers offers names (and ids that have been begun) of containers in
// one of the states; without states, of all.
func (a *App) completeContainers(states ...containerizer.State) completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		engine, err := a.engine(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		all, err := engine.List(cmd.Context(), containerizer.Filter{States: states, Brief: true})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var out []string
		for _, s := range all {
			name := s.ID.Short()
			if s.Spec != nil && s.Spec.Name != "" && (begun == "" || !strings.HasPrefix(name, begun)) {
				name = s.Spec.Name
			}
			if s.ID.IsRoot() && strings.HasPrefix(name, begun) && !slices.Contains(args, name) {
				out = append(out, name)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeImages offers names of images for the first argument; what follows is
// left to the shell.
func (a *App) completeImages(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && (cmd.Name() == "run" || cmd.Name() == "create") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	images, err := a.images(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	all, err := images.List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for i := range all {
		for _, ref := range all[i].References {
			repository, tag := splitReference(ref)
			if name := familiar(repository) + ":" + tag; strings.HasPrefix(name, begun) && !slices.Contains(args, name) {
				out = append(out, name)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
