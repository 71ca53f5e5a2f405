package translate

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// unsupported is an error of class ErrUnsupported.
func unsupported(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrUnsupported)...)
}

// setCommand fills in what p runs, by the table of Mesos's docker/runtime isolator.
// image is the configuration of the container's image, nil without one.
func setCommand(p *containerizer.Process, c *mesosv1.CommandInfo, image *v1.ImageConfig) error {
	if c == nil { // nothing said is not the default, a shell: it is the image's
		c = &mesosv1.CommandInfo{Shell: new(false)}
	}
	value := c.GetValue()
	for _, a := range append([]string{value}, c.GetArguments()...) {
		if strings.ContainsRune(a, 0) {
			return invalid("the command holds a NUL byte")
		}
	}
	switch {
	case c.GetShell() && value == "":
		return invalid("a shell has no command to run")
	case c.GetShell():
		p.Entrypoint = []string{"/bin/sh", "-c", value}
	case value != "":
		// The first argument is the name that the program sees. Ours is always its path.
		p.Entrypoint = []string{value}
		if a := c.GetArguments(); len(a) > 0 {
			p.Args = a[1:]
		}
	case image == nil:
		return invalid("there is neither a command nor an image that has one")
	case len(image.Entrypoint) > 0:
		p.Args = c.GetArguments() // none: the image's
	case len(image.Cmd) > 0 && len(c.GetArguments()) > 0:
		p.Entrypoint, p.Args = image.Cmd[:1], c.GetArguments()
	case len(image.Cmd) == 0:
		return invalid("neither the call nor the image says what to run")
	}
	return nil
}

// variables are those of a command, as KEY=VALUE, and those of them that nobody may write
// down. Only secrets that come by value are had.
func variables(c *mesosv1.CommandInfo) (env, secret []string, err error) {
	for _, v := range c.GetEnvironment().GetVariables() {
		value := v.GetValue()
		isSecret := v.GetType() == mesosv1.Environment_Variable_SECRET
		if isSecret {
			value = string(v.GetSecret().GetValue().GetData())
		}
		switch {
		case v.GetName() == "" || strings.ContainsAny(v.GetName(), "=\x00"):
			return nil, nil, invalid("variable %.100q has no possible name", v.GetName())
		case isSecret && (v.GetSecret() == nil || v.Value != nil):
			return nil, nil, invalid("variable %.100q of type SECRET has to have a secret and no value", v.GetName())
		case isSecret && (v.GetSecret().GetType() != mesosv1.Secret_VALUE || v.GetSecret().GetValue() == nil):
			return nil, nil, unsupported("variable %.100q: a secret that is not given by value", v.GetName())
		case !isSecret && (v.GetType() != mesosv1.Environment_Variable_VALUE || v.GetSecret() != nil):
			return nil, nil, invalid("variable %.100q of type VALUE has to have a value and no secret", v.GetName())
		case !isSecret && v.Value == nil:
			return nil, nil, invalid("variable %.100q has no value", v.GetName())
		case strings.ContainsRune(value, 0):
			return nil, nil, invalid("variable %.100q holds a NUL byte", v.GetName())
		}
		if isSecret {
			secret = append(secret, v.GetName()+"="+value)
		} else {
			env = append(env, v.GetName()+"="+value)
		}
	}
	return env, secret, nil
}

// account is a user of the node.
type account struct {
	owner  containerizer.Owner
	groups []string
}

// setUser makes p run as a, with its groups only.
func (a *account) setUser(p *containerizer.Process) {
	p.User = fmt.Sprintf("%d:%d", a.owner.UID, a.owner.GID)
	p.AdditionalGroups, p.GroupsPolicy = a.groups, containerizer.GroupsStrict
}

// lookUp finds a user of the node by name, or number.
func lookUp(name string) (*account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if id, e := strconv.ParseUint(name, 10, 32); e == nil {
			return &account{owner: containerizer.Owner{UID: uint32(id), GID: uint32(id)}}, nil
		}
		return nil, invalid("user %.100q: %s", name, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	groups, err3 := u.GroupIds()
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, invalid("user %.100q has no numbers", name)
	}
	groups = slices.DeleteFunc(groups, func(g string) bool { return g == u.Gid })
	return &account{owner: containerizer.Owner{UID: uint32(uid), GID: uint32(gid)}, groups: groups}, nil
}

// accountOf is whom a container runs as that we launched.
func accountOf(s *containerizer.Spec) *account {
	a := &account{groups: s.Process.AdditionalGroups}
	u, g, _ := strings.Cut(s.Process.User, ":")
	uid, _ := strconv.ParseUint(u, 10, 32) // we wrote it
	gid, _ := strconv.ParseUint(g, 10, 32) // the same
	a.owner = containerizer.Owner{UID: uint32(uid), GID: uint32(gid)}
	return a
}

// artifacts are what a command wants to have fetched.
func artifacts(c *mesosv1.CommandInfo) ([]containerizer.Artifact, error) {
	var list []containerizer.Artifact
	for _, u := range c.GetUris() {
		a := containerizer.Artifact{
			URI: u.GetValue(), Output: u.GetOutputFile(), Executable: u.GetExecutable(),
			NoExtract: !u.GetExtract(), KeepArchive: !u.GetCache(), Cache: u.GetCache(),
		}
		if err := a.Validate(); err != nil {
			return nil, err
		}
		if strings.ContainsAny(a.URI, `\'`) {
			return nil, invalid("URI %.200q holds a backslash or a quote", a.URI)
		}
		list = append(list, a)
	}
	return list, nil
}

// Process is what c runs in the container of like, as a check does: with the variables
// and in the folder of the container's process.
func Process(c *mesosv1.CommandInfo, like *containerizer.Spec) (*containerizer.Process, error) {
	p := &containerizer.Process{User: like.Process.User, AdditionalGroups: like.Process.AdditionalGroups, GroupsPolicy: like.Process.GroupsPolicy, WorkingDir: like.Process.WorkingDir}
	if c.GetUser() != "" {
		a, err := lookUp(c.GetUser())
		if err != nil {
			return nil, err
		}
		a.setUser(p)
	}
	if len(c.GetUris()) > 0 {
		return nil, unsupported("URIs of a command that runs in a container that is there")
	}
	own, secret, err := variables(c)
	if err != nil {
		return nil, err
	}
	if len(secret) > 0 {
		return nil, unsupported("secrets of a command that runs in a container that is there")
	}
	p.Env = append(slices.Clone(like.Process.Env), own...)
	return p, setCommand(p, c, nil)
}
