package cli

import (
	"slices"

	"github.com/spf13/cobra"
)

// command is an entry of the table below. Its constructor runs only when the
// command is needed.
type command struct {
	names []string // the name and its aliases
	group string
	make  func(*App) *cobra.Command
}

func (c command) is(name string) bool { return slices.Contains(c.names, name) }

const (
	groupContainers = "containers"
	groupImages     = "images"
	groupSystem     = "system"
	groupOther      = "other"
)

// groups are the headings of the help.
func groups() []*cobra.Group {
	return []*cobra.Group{
		{ID: groupContainers, Title: "Containers:"},
		{ID: groupImages, Title: "Images:"},
		{ID: groupSystem, Title: "The node:"},
		{ID: groupOther, Title: "Other:"},
	}
}

// commands are all commands of berth, in the order of the help.
func commands() []command {
	return []command{
		{[]string{"run"}, groupContainers, newRun},
		{[]string{"create"}, groupContainers, newCreate},
		{[]string{"start"}, groupContainers, newStart},
		{[]string{"exec"}, groupContainers, newExec},
		{[]string{"attach"}, groupContainers, newAttach},
		{[]string{"logs"}, groupContainers, newLogs},
		{[]string{"ps"}, groupContainers, newPs},
		{[]string{"inspect"}, groupContainers, newInspect},
		{[]string{"stop"}, groupContainers, newStop},
		{[]string{"restart"}, groupContainers, newRestart},
		{[]string{"kill"}, groupContainers, newKill},
		{[]string{"rm"}, groupContainers, newRm},
		{[]string{"wait"}, groupContainers, newWait},
		{[]string{"pause"}, groupContainers, newPause},
		{[]string{"unpause"}, groupContainers, newUnpause},
		{[]string{"update"}, groupContainers, newUpdate},
		{[]string{"rename"}, groupContainers, newRename},
		{[]string{"port"}, groupContainers, newPort},
		{[]string{"stats"}, groupContainers, newStats},
		{[]string{"top"}, groupContainers, newTop},
		{[]string{"events"}, groupContainers, newEvents},
		{[]string{"pull"}, groupImages, newPull},
		{[]string{"push"}, groupImages, newPush},
		{[]string{"copy"}, groupImages, newCopy},
		{[]string{"images"}, groupImages, newImages},
		{[]string{"rmi"}, groupImages, newRmi},
		{[]string{"tag"}, groupImages, newTag},
		{[]string{"load"}, groupImages, newLoad},
		{[]string{"save"}, groupImages, newSave},
		{[]string{"login"}, groupImages, newLogin},
		{[]string{"logout"}, groupImages, newLogout},
		{[]string{"import"}, groupImages, newImport},
		{[]string{"container"}, groupSystem, newContainerGroup},
		{[]string{"image"}, groupSystem, newImageGroup},
		{[]string{"volume"}, groupSystem, newVolumeGroup},
		{[]string{"system"}, groupSystem, newSystemGroup},
		{[]string{"mesos"}, groupSystem, newMesosGroup},
		{[]string{"info"}, groupSystem, newInfo},
		{[]string{"fetch"}, groupOther, newFetch},
		{[]string{"version"}, groupOther, newVersion},
	}
}

// group makes a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}

// called gives a command another name, for use in a group.
func called(name string, cmd *cobra.Command) *cobra.Command {
	_, rest, _ := cutWord(cmd.Use)
	cmd.Use = name + rest
	return cmd
}

func cutWord(s string) (word, rest string, ok bool) {
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i], s[i:], true
		}
	}
	return s, "", false
}

func newContainerGroup(a *App) *cobra.Command {
	ls := called("ls", newPs(a))
	ls.Aliases = []string{"ps", "list"}
	return group("container", "Manage containers",
		newRun(a), newCreate(a), newStart(a), newExec(a), newAttach(a), newLogs(a), ls, newContainerInspect(a),
		newStop(a), newRestart(a), newKill(a), newRm(a), newWait(a), newPause(a), newUnpause(a), newUpdate(a),
		newRename(a), newPort(a), newStats(a), newTop(a), newContainerPrune(a))
}

func newImageGroup(a *App) *cobra.Command {
	ls := called("ls", newImages(a))
	ls.Aliases = []string{"list"}
	rm := called("rm", newRmi(a))
	rm.Aliases = []string{"remove"}
	return group("image", "Manage images",
		newPull(a), newPush(a), newCopy(a), ls, rm, newTag(a), newLoad(a), newSave(a), newImport(a), newImageInspect(a), newImagePrune(a),
		newPin(a, "pin", "Keep images, whatever is pruned or needs room", true), newPin(a, "unpin", "Undo pin", false))
}
