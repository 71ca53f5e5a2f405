package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

// dockerTime is how Docker prints times in lists.
const dockerTime = "2006-01-02 15:04:05 -0700 MST"

// row is a container's line.
func (f *psFlags) row(s *containerizer.Status) format.Row {
	spec := s.Spec
	if spec == nil { // a damaged record is listed all the same
		spec = &containerizer.Spec{}
	}
	command := strconv.Quote(commandText(&spec.Process))
	id := s.ID.String()
	image := imageText(s)
	if !f.noTrunc {
		id = s.ID.Short()
		command = ellipsis(command, 20)
	}
	mounts, local := mountNames(spec.Mounts)
	if !f.noTrunc {
		for i := range mounts {
			mounts[i] = ellipsis(mounts[i], 15)
		}
	}
	row := format.Row{
		"Command": command, "CreatedAt": s.CreatedAt.Local().Format(dockerTime), "ID": id, "Image": image,
		"Labels": labelsText(spec.Labels), "LocalVolumes": strconv.Itoa(local), "Mounts": strings.Join(mounts, ","),
		"Names": cmp.Or(spec.Name, s.ID.Short()), "Networks": strings.Join(networkNames(s), ","), "Pid": s.PID,
		"Ports": portsText(s.Ports), "RunningFor": ago(s.CreatedAt), "Size": "", "State": string(s.State), "Status": statusText(s),
	}
	row.SetLabels(spec.Labels)
	return row
}

func commandText(p *containerizer.Process) string {
	return strings.Join(slices.Concat(p.Entrypoint, p.Args), " ")
}

func imageText(s *containerizer.Status) string {
	switch {
	case s.Spec == nil:
		return s.ImageReference
	case s.Spec.Image != nil:
		return s.Spec.Image.Reference
	}
	return s.Spec.RootfsPath
}

// statusText is Docker's sentence, such as "Exited (0) 3 minutes ago".
func statusText(s *containerizer.Status) string {
	text := ""
	switch s.State {
	case containerizer.StatePreparing:
		text = "Preparing"
	case containerizer.StateCreated:
		text = "Created"
	case containerizer.StateRunning:
		text = "Up " + units.HumanDuration(time.Since(s.StartedAt))
	case containerizer.StatePaused:
		text = "Up " + units.HumanDuration(time.Since(s.StartedAt)) + " (Paused)"
	case containerizer.StateExited:
		text = "Exited"
		if t := s.Termination; t != nil {
			text = fmt.Sprintf("Exited (%d) %s", t.ExitCode, ago(t.FinishedAt))
			if t.OOMKilled {
				text += " (out of memory)"
			}
		}
	case containerizer.StateDestroying:
		text = "Removal In Progress"
	case containerizer.StateDestroyed:
		text = "Removed"
	}
	if s.Interrupted {
		text += " (interrupted)"
	}
	return text
}

func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}

func ellipsis(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func labelsText(m map[string]string) string {
	parts := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ",")
}

// mountNames lists what is mounted, and counts the volumes of this node in it.
func mountNames(mounts []containerizer.Mount) (names []string, local int) {
	for _, m := range mounts {
		switch m.Type {
		case containerizer.MountVolume:
			local++
			names = append(names, m.Source)
		case containerizer.MountBind:
			names = append(names, m.Source)
		default: // nothing with a name
		}
	}
	return names, local
}

func networkNames(s *containerizer.Status) []string {
	var names []string
	for _, n := range s.Networks {
		if !slices.Contains(names, n.Name) {
			names = append(names, n.Name)
		}
	}
	if len(names) > 0 || s.Spec == nil {
		return names
	}
	switch mode := s.Spec.Namespaces.Network.Mode; {
	case mode == containerizer.NamespaceHost:
		return []string{"host"}
	case mode == containerizer.NamespaceContainer:
		return []string{"container:" + s.Spec.Namespaces.Network.Container.Short()}
	case s.Spec.Network.None:
		return []string{"none"}
	}
	return nil
}

// portsText is Docker's "0.0.0.0:8080->80/tcp", neighbouring ports as ranges.
func portsText(ports []containerizer.PortMapping) string {
	sorted := slices.Clone(ports)
	slices.SortStableFunc(sorted, func(a, b containerizer.PortMapping) int {
		if c := strings.Compare(a.HostIP+string(a.Protocol), b.HostIP+string(b.Protocol)); c != 0 {
			return c
		}
		return int(a.ContainerPort) - int(b.ContainerPort)
	})
	var parts []string
	for i := 0; i < len(sorted); {
		j := i + 1
		for j < len(sorted) && continues(sorted[j-1], sorted[j]) {
			j++
		}
		parts = append(parts, portText(sorted[i], j-i))
		i = j
	}
	return strings.Join(parts, ", ")
}

func continues(a, b containerizer.PortMapping) bool {
	return a.HostIP == b.HostIP && a.Protocol == b.Protocol &&
		b.ContainerPort == a.ContainerPort+1 && b.HostPort == a.HostPort+1
}

func portText(p containerizer.PortMapping, n int) string {
	span := func(first uint16) string {
		if n == 1 {
			return strconv.Itoa(int(first))
		}
		return fmt.Sprintf("%d-%d", first, int(first)+n-1)
	}
	return fmt.Sprintf("%s:%s->%s/%s", hostAddress(p), span(p.HostPort), span(p.ContainerPort), p.Protocol)
}

func hostAddress(p containerizer.PortMapping) string {
	if p.HostIP == "" {
		return "0.0.0.0"
	}
	if a, err := netip.ParseAddr(p.HostIP); err == nil && a.Is6() {
		return "[" + p.HostIP + "]"
	}
	return p.HostIP
}

// writtenText is what a container has written to its root filesystem.
func writtenText(ctx context.Context, engine containerizer.Engine, id containerizer.ContainerID) string {
	u, err := engine.Usage(ctx, id)
	if err != nil || u.Disk == nil {
		return "-"
	}
	return units.HumanSizeWithPrecision(float64(u.Disk.Bytes), 3)
}
