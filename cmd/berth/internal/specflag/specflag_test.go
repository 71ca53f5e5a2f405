package specflag_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/containerizer"
)

var update = flag.Bool("update", false, "write the golden files anew")

// node is a fixed specflag.Host.
type node struct{ files map[string]string }

func (node) LookupEnv(key string) (string, bool) {
	v, ok := map[string]string{"HOME": "/home/me", "EMPTY": ""}[key]
	return v, ok
}

func (n node) ReadFile(path string) ([]byte, error) {
	if text, ok := n.files[path]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (node) Abs(path string) (string, error) {
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	return filepath.Join("/home/me/dir", path), nil
}

func (node) LimitsSwap() bool { return true }

func (node) Hostname() (string, error) { return "thenode", nil }

func (node) DeviceNumber(path string) (major, minor int64, err error) {
	if path != "/dev/sda" {
		return 0, 0, fmt.Errorf("%q is not a device", path)
	}
	return 8, 0, nil
}

func (node) Container(name string) (*containerizer.Status, error) {
	if name != "db" {
		return nil, fmt.Errorf("no container %q: %w", name, containerizer.ErrNotFound)
	}
	return &containerizer.Status{ID: "0123456789abcdef", Spec: &containerizer.Spec{Mounts: []containerizer.Mount{
		{Type: containerizer.MountVolume, Source: "data", Destination: "/data", Options: []string{"rbind", "rprivate"}},
		{Type: containerizer.MountBind, Source: "/etc/db", Destination: "/etc/db", Options: []string{"rbind", "rprivate", "rro"}},
		{Type: containerizer.MountTmpfs, Destination: "/tmp"},
	}}}, nil
}

func (node) ExposedPorts(containerizer.ImageSource) ([]string, error) {
	return []string{"443/tcp", "80/tcp"}, nil
}

func (node) AnonymousVolume() string { return strings.Repeat("a", 64) }

func testNode() node {
	return node{files: map[string]string{
		"env":    "\xef\xbb\xbf# comment\nA=1\n  B=two words \nHOME\nNOTSET\n\nEMPTY=\n",
		"labels": "team=a\nplain\n",
		"badenv": "a b=1\n",
	}}
}

// spec parses args as `berth run` does.
func spec(args ...string) (*containerizer.Spec, error) {
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	set.SetInterspersed(false)
	var f specflag.Flags
	f.Register(set)
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	return f.Spec(testNode(), set.Arg(0), set.Args()[1:])
}

func TestSpecGolden(t *testing.T) {
	for name, args := range map[string]string{
		"plain":       "debian",
		"command":     "debian sh -c true",
		"common":      "--rm -it --name web -e A=1 -e HOME -e NOTSET -w /srv -u 1000:staff --group-add audio -h box --domainname lan --read-only --init debian bash",
		"env-file":    "--env-file env -e A=2 --label-file labels -l team=b --annotation x=y debian",
		"entrypoint":  "--entrypoint /bin/sh debian -c true",
		"entry-json":  `--entrypoint ["/bin/sh","-c"] debian true`,
		"entry-none":  "--entrypoint= debian /bin/true",
		"limits":      "-m 64m --memory-reservation 32m --memory-swap 128m --memory-swappiness 10 --oom-kill-disable --cpus 1.5 -c 512 --cpuset-cpus 0-1 --cpuset-mems 0 --pids-limit 100 debian",
		"limits-cfs":  "--cpu-period 50000 --cpu-quota 25000 --cpu-rt-period 1000000 --cpu-rt-runtime 950000 --memory-swap -1 -m 1g --pids-limit -1 debian",
		"blkio":       "--blkio-weight 300 --blkio-weight-device /dev/sda:200 --device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2k --device-read-iops /dev/sda:100 --device-write-iops /dev/sda:200 debian",
		"process":     "--ulimit nofile=1024:2048 --ulimit core=-1 --ulimit nofile=512 --oom-score-adj -500 --umask 027 --stop-signal SIGINT --stop-timeout 3 debian",
		"volumes":     "-v data:/data -v ./src:/src:ro -v /a:/b:rw,Z,rshared -v /anonymous --tmpfs /run:size=64m,mode=755,exec --tmpfs /tmp --shm-size 1g debian",
		"mounts":      "--mount type=bind,src=/a,dst=/b,readonly --mount type=volume,source=data,target=/d,volume-subpath=x --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770 --mount type=image,source=debian:12,target=/i,image-subpath=etc --mount type=bind,src=c,dst=/c,bind-recursive=disabled,bind-propagation=slave debian",
		"from":        "--volumes-from db:ro -v other:/data debian",
		"ports":       "-p 8080:80 -p 127.0.0.1:53:53/udp -p [::1]:90-91:90-91 -p 7000 -p 127.0.0.1::22 debian",
		"ports-all":   "-P -p 8080:80 --expose 9000-9001/udp debian",
		"network":     "--network a --network name=b,ip=10.1.0.5,alias=x,mac-address=02:00:00:00:00:01 --network-alias web --ip 10.0.0.5 --ip6 fd00::5 --mac-address 02-00-00-00-00-02 debian",
		"network-pod": "--network pods:ip=10.2.0.9,interface_name=eth5 debian",
		"net-none":    "--network none debian",
		"net-host":    "--network host debian",
		"net-join":    "--network container:db --pid container:db --ipc container:db --uts host --cgroupns host debian",
		"default-ip":  "--ip 10.88.0.77 debian",
		"dns":         "--no-hosts=false --dns 1.1.1.1 --dns-search example.org --dns-option ndots:2 --add-host db:10.0.0.1 --add-host v6=[fd00::1] --add-host gw:host-gateway debian",
		"security":    "--privileged=false --cap-add net_admin --cap-drop ALL --security-opt no-new-privileges --security-opt seccomp=profile.json --security-opt apparmor=unconfined --security-opt label=type:foo_t --security-opt mask=/proc/foo debian",
		"unconfined":  "--privileged --security-opt seccomp=unconfined --security-opt systempaths=unconfined --security-opt label=disable debian",
		"artifacts":   "--artifact https://example.org/a.tgz,cache,sha256=" + strings.Repeat("0a", 32) + " --artifact ./tool,executable,output=bin/tool,user=1000:1000 --artifact s3://b/k.zip,extract=false --sandbox /work -e BERTH_SANDBOX=/mine debian",
		"userns":      "--userns private -v data:/data -v /a:/b debian",
		"memory":      "-m 64m debian",
		"uidmap":      "--uidmap 0:100000:1000 --uidmap 1000:1000:1 --gidmap 0:200000:1000 debian",
		"devices":     "--device /dev/fuse --device /dev/sda:/dev/xvda:r --device /dev/null:rw --device nvidia.com/gpu=all --device-cgroup-rule=c\u00a042:*\u00a0rwm debian",
		"log":         "--log-driver cri --log-opt max-size=10m --log-opt max-file=3 --log-opt path=out.log debian",
		"log-none":    "--log-driver none debian",
		"rootfs":      "--rootfs ./root /bin/true",
		"image":       "--platform linux/arm64/v8 --pull always debian:12",
		"runtime":     "--runtime crun debian",
		"sysctl":      "--sysctl net.ipv4.ip_forward=1 --cgroup-parent /jobs debian",
	} {
		t.Run(name, func(t *testing.T) {
			words := strings.Split(args, " ")
			for i := range words {
				words[i] = strings.ReplaceAll(words[i], "\u00a0", " ")
			}
			s, err := spec(words...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("Spec of %q (-want +got):\n%s", args, diff)
			}
		})
	}
}

func TestSpecRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"-e =x debian":                               `environment variable "=x" has no name`,
		"--env-file badenv debian":                   `--env-file "badenv": line 1: the name "a b" holds white space`,
		"--env-file nosuch debian":                   `--env-file: open nosuch`,
		"-w srv debian":                              `--workdir "srv" is not an absolute path`,
		"--entrypoint= debian":                       `--entrypoint "" takes the image's entrypoint away`,
		"--entrypoint [1] debian":                    `--entrypoint "[1]" is not a JSON list of strings`,
		"--umask 888 debian":                         `--umask "888" is not an octal number`,
		"--oom-score-adj 2000 debian":                `--oom-score-adj 2000 is not within`,
		"--ulimit nofile=2:1 debian":                 `--ulimit "nofile=2:1"`,
		"--ulimit foo=1 debian":                      `--ulimit "foo=1"`,
		"-m 1x debian":                               `"1x" is not a size`,
		"-m 99999999999g debian":                     `is too large a size`,
		"-m -1 debian":                               `--memory and --memory-reservation are sizes`,
		"-m 1m --memory-reservation 2m d":            `--memory-reservation 2097152 is more than --memory 1048576`,
		"-m 2m --memory-swap 1m debian":              `--memory-swap 1048576 is memory and swap together, so at least`,
		"--memory-swap 1m debian":                    `--memory-swap is memory and swap together: say --memory too`,
		"--memory-swappiness 101 debian":             `--memory-swappiness 101 is not within`,
		"--cpus 0 debian":                            `--cpus "0" is not a number of CPUs`,
		"--cpus NaN debian":                          `--cpus "NaN" is not a number of CPUs`,
		"--cpus 1 --cpu-quota 1 debian":              `--cpus and --cpu-period or --cpu-quota set the same limit`,
		"--pids-limit -2 debian":                     `--pids-limit -2`,
		"--blkio-weight 5 debian":                    `--blkio-weight: weight 5 is not within`,
		"--blkio-weight-device sda:10 debian":        `--blkio-weight-device "sda:10" is not DEVICE:NUMBER`,
		"--device-read-bps /dev/x:1 debian":          `"/dev/x" is not a device`,
		"--device-read-iops /dev/sda:x d":            `"x" is not a number`,
		"-v a:b:c:d debian":                          `--volume "a:b:c:d" has too many ':'`,
		"-v a:b debian":                              `the target "b" is not an absolute path`,
		"-v /a:/ debian":                             `nothing can be mounted on /`,
		"-v :/a debian":                              `has no source before ':'`,
		"-v a*b:/a debian":                           `"a*b" is neither a path (with '/' or '.' first) nor the name of a volume`,
		"-v a/b:/a debian":                           `"a/b" is neither a path (with '/' or '.' first) nor the name`,
		"--mount= debian":                            `--mount "": it is empty`,
		"-v /a:/b:ro,rw debian":                      `ro and rw exclude each other`,
		"-v /a:/b:foo debian":                        `no option "foo"`,
		"-v /a:/b:U debian":                          `option U would change the owner`,
		"-v /a:/b -v /c:/b debian":                   `two mounts have the target "/b"`,
		"--mount type=foo,dst=/a debian":             `no type "foo"`,
		"--mount type=bind,dst=/a debian":            `it has no source`,
		"--mount type=bind,src=/a debian":            `has no target`,
		"--mount type=tmpfs,src=/a,dst=/b d":         `a tmpfs has no source`,
		"--mount type=tmpfs,dst=/b,relabel=shared d": `type tmpfs has no "relabel"`,
		"--mount type=bind,src=/a,dst=/b,ro=x d":     `ro "x": true or false`,
		"--mount type=volume,src=../x,dst=/b d":      `"../x" is not the name of a volume`,
		"--tmpfs /a:foo debian":                      `no option "foo"`,
		"--shm-size 1m --ipc host debian":            `/dev/shm is the other's`,
		"--volumes-from nosuch debian":               `no container "nosuch"`,
		"--volumes-from db:x debian":                 `"x" is not ro or rw`,
		"-p x debian":                                `"x" is not a port`,
		"-p 0 debian":                                `"0" is not a port`,
		"-p 1-3:1-2 debian":                          `the ranges on both sides differ in length`,
		"-p 80/foo debian":                           `protocol "foo" is not tcp, udp or sctp`,
		"-p a:1:2 debian":                            `"a" is not an address`,
		"-p ::1:80:80 debian":                        `an IPv6 address stands in brackets`,
		"-p [::1]80 debian":                          `does not end with ']:'`,
		"-p 80 --network none debian":                `--publish: the container has --network none`,
		"-p 80 --network host debian":                `with --network host the container has no`,
		"-p 80 --network container:db debian":        `is configured already`,
		"--expose 80 debian":                         `--expose declares ports for --publish-all`,
		"--network none --network a debian":          `--network none stands alone`,
		"--network name=a,foo=1 debian":              `no option "foo"`,
		"--network container: debian":                `names no container`,
		"--ip fd00::1 debian":                        `--ip "fd00::1" is not an address of that family`,
		"--mac-address 02:00 debian":                 `is not a MAC address`,
		"--dns foo debian":                           `--dns "foo" is not an address`,
		"--add-host foo debian":                      `--add-host "foo" is not NAME:IP`,
		"--add-host foo:bar debian":                  `"bar" is not an address`,
		"--hostname a --uts host debian":             `need a host name namespace of the container's own`,
		"--pid foo debian":                           `--pid "foo": private, host`,
		"--uidmap 0:1 --userns host debian":          `are for a private user namespace`,
		"--uidmap 0:x:1 debian":                      `"x" is not an id`,
		"--uidmap 0:4294967295:2 debian":             `does not fit into the ids`,
		"--device dev/x debian":                      `"dev/x" is not an absolute path`,
		"--device /dev/x:/dev/y:rwz debian":          `permissions "rwz"`,
		"--device-cgroup-rule x debian":              `it is not TYPE MAJOR:MINOR ACCESS`,
		"--security-opt foo debian":                  `"foo" has no value`,
		"--security-opt foo=1 debian":                `no option "foo"`,
		"--security-opt no-new-privileges=x debian":  `true or false`,
		"--security-opt label=foo debian":            `disable, user:, role:, type: or level:`,
		"--log-driver journald debian":               `--log-driver "journald"`,
		"--log-opt foo=1 debian":                     `--log-opt "foo"`,
		"--log-opt max-file=0 debian":                `max-file=0 is not a number from 1 up`,
		"--log-driver none --log-opt max-file=2 d":   `keeps no file`,
		"--pull newer debian":                        `--pull "newer"`,
		"--rootfs --pull always /x":                  `choose an image; with --rootfs there is none`,
		"--sysctl a debian":                          `--sysctl "a" is not NAME=VALUE`,
		"--label =a debian":                          `--label "=a" has no name`,
	} {
		t.Run(args, func(t *testing.T) {
			_, err := spec(strings.Split(args, " ")...)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v, want one with %q", err, want)
			}
		})
	}
}

// Every flag must be in the golden tests: one that changes nothing would be
// found there.
func TestEveryFlagIsTested(t *testing.T) {
	source, err := os.ReadFile("specflag_test.go")
	if err != nil {
		t.Fatal(err)
	}
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	new(specflag.Flags).Register(set)
	set.VisitAll(func(f *pflag.Flag) {
		if why := specflag.Refusal(f.Name); why != "" {
			t.Errorf("--%s is registered and refused: %s", f.Name, why)
		}
		long, short := strings.Contains(string(source), "--"+f.Name), false
		if f.Shorthand != "" {
			short = strings.Contains(string(source), " -"+f.Shorthand+" ") || strings.Contains(string(source), `"-`+f.Shorthand+" ")
		}
		if !long && !short && f.Name != "tty" && f.Name != "interactive" && f.Name != "net" {
			t.Errorf("no test uses --%s", f.Name)
		}
	})
}

func TestInvalidIsAClass(t *testing.T) {
	_, err := spec("-v", "x:y", "debian")
	if !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("error %v is not of class ErrInvalid", err)
	}
}
