// Command mesos-go drives the operator API of an agent with the client of mesos-go, as
// frameworks and tools do. It says what is not as it should be, and fails then.
//
// It is a module of its own, for mesos-go 0.0.11, and builds as well against Debian's
// golang-github-mesos-mesos-go-dev:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/agent"
	"github.com/mesos/mesos-go/api/v1/lib/agent/calls"
	"github.com/mesos/mesos-go/api/v1/lib/encoding"
	"github.com/mesos/mesos-go/api/v1/lib/encoding/codecs"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/httpagent"
)

// driver drives one agent in one encoding.
type driver struct {
	ctx     context.Context
	sender  calls.Sender
	parent  mesos.ContainerID
	sandbox string // of the parent
	prefix  string // of ids
}

func main() {
	url := flag.String("url", "", "`URL` of the API")
	parent := flag.String("parent", "", "`id` of a standalone container that runs")
	sandbox := flag.String("sandbox", "", "`path` of its sandbox")
	user := flag.String("user", "", "principal and secret, as `NAME:SECRET`")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	failed := false
	for name, media := range map[string]encoding.MediaType{"json": codecs.MediaTypeJSON, "protobuf": codecs.MediaTypeProtobuf} {
		name0, secret, _ := strings.Cut(*user, ":")
		client := httpcli.New(
			httpcli.Endpoint(*url), httpcli.Codec(codecs.ByMediaType[media]),
			httpcli.Do(httpcli.With(httpcli.BasicAuth(name0, secret))),
		)
		d := &driver{ctx: ctx, sender: httpagent.NewSender(client.Send), parent: mesos.ContainerID{Value: *parent}, sandbox: *sandbox, prefix: name}
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"info", d.info},
			{"nested", d.nested},
			{"kill", d.kill},
			{"session", d.session},
			{"terminal", d.terminal},
			{"errors", d.errors},
		} {
			if err := step.do(); err != nil {
				fmt.Printf("%s: %s: %v\n", name, step.name, err)
				failed = true
				continue
			}
			fmt.Printf("%s: %s: good\n", name, step.name)
		}
	}
	if failed {
		os.Exit(1)
	}
}

// ask sends a call and returns its response.
func (d *driver) ask(call *agent.Call) (*agent.Response, error) {
	answer, err := d.sender.Send(d.ctx, calls.NonStreaming(call))
	if err != nil {
		return nil, fmt.Errorf("%v: %w", call.GetType(), err)
	}
	defer answer.Close()
	r := &agent.Response{}
	if err := answer.Decode(r); err != nil {
		return nil, fmt.Errorf("%v: decode: %w", call.GetType(), err)
	}
	return r, nil
}

// tell sends a call that has no response.
func (d *driver) tell(call *agent.Call) error {
	if err := calls.SendNoData(d.ctx, d.sender, calls.NonStreaming(call)); err != nil {
		return fmt.Errorf("%v: %w", call.GetType(), err)
	}
	return nil
}

func (d *driver) child(name string) mesos.ContainerID {
	return mesos.ContainerID{Value: d.prefix + "-" + name, Parent: &d.parent}
}

func shell(command string) *mesos.CommandInfo { return &mesos.CommandInfo{Value: &command} }

func (d *driver) info() error {
	r, err := d.ask(calls.GetHealth())
	if err != nil || !r.GetHealth.Healthy {
		return fmt.Errorf("health: %v, %w", r, err)
	}
	r, err = d.ask(calls.GetVersion())
	if err != nil || r.GetVersion.VersionInfo.Version == "" {
		return fmt.Errorf("version: %v, %w", r, err)
	}
	r, err = d.ask(calls.GetFlags())
	if err != nil || len(r.GetFlags.Flags) == 0 {
		return fmt.Errorf("flags: %v, %w", r, err)
	}
	timeout := 5 * time.Second
	r, err = d.ask(calls.GetMetrics(&timeout))
	if err != nil || len(r.GetMetrics.Metrics) == 0 {
		return fmt.Errorf("metrics: %v, %w", r, err)
	}
	if err := d.tell(calls.SetLoggingLevel(1, time.Minute)); err != nil {
		return err
	}
	r, err = d.ask(calls.GetLoggingLevel())
	if err != nil || r.GetLoggingLevel.Level != 1 {
		return fmt.Errorf("logging level: %v, %w", r, err)
	}
	for _, call := range []*agent.Call{calls.GetState(), calls.GetContainers(), calls.GetFrameworks(), calls.GetExecutors(), calls.GetTasks(), calls.GetAgent()} {
		if _, err := d.ask(call); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for a container, which has to end with a raw wait status.
func (d *driver) wait(id mesos.ContainerID, want int32) error {
	r, err := d.ask(calls.WaitNestedContainer(id))
	if err != nil {
		return err
	}
	if got := r.WaitNestedContainer.ExitStatus; got == nil || *got != want {
		return fmt.Errorf("exit status %v, want %d", got, want)
	}
	return nil
}

func (d *driver) nested() error {
	id := d.child("nested")
	launch := calls.LaunchNestedContainer(id, shell("echo hello; exit 3"), nil)
	if err := d.tell(launch); err != nil {
		return err
	}
	if err := d.tell(launch); err != nil { // known: accepted
		return fmt.Errorf("again: %w", err)
	}
	if err := d.wait(id, 3<<8); err != nil {
		return err
	}
	path := d.sandbox + "/containers/" + id.Value
	r, err := d.ask(calls.ReadFile(path+"/stdout", 0))
	if err != nil || string(r.ReadFile.Data) != "hello\n" || r.ReadFile.Size != 6 {
		return fmt.Errorf("stdout: %v, %w", r, err)
	}
	r, err = d.ask(calls.ListFiles(path))
	if err != nil || len(r.ListFiles.FileInfos) != 2 {
		return fmt.Errorf("files: %v, %w", r, err)
	}
	for range 2 { // again is nothing to do
		if err := d.tell(calls.RemoveNestedContainer(id)); err != nil {
			return err
		}
	}
	if _, err := d.ask(calls.ListFiles(path)); err == nil {
		return errors.New("the sandbox is still there")
	}
	return nil
}

func (d *driver) kill() error {
	id := d.child("killed")
	if err := d.tell(calls.LaunchNestedContainer(id, shell("sleep 1000"), nil)); err != nil {
		return err
	}
	if d.tell(calls.RemoveNestedContainer(id)) == nil {
		return errors.New("what runs was removed")
	}
	if err := d.tell(calls.KillNestedContainer(id)); err != nil {
		return err
	}
	if err := d.wait(id, 9); err != nil {
		return err
	}
	if d.tell(calls.KillNestedContainer(id)) == nil {
		return errors.New("what has ended was killed")
	}
	return d.tell(calls.RemoveNestedContainer(id))
}

// read collects what a session writes, until it ends or has what is wanted.
func read(answer mesos.Response, until string) (string, error) {
	var all bytes.Buffer
	for {
		m := &agent.ProcessIO{}
		if err := answer.Decode(m); err != nil {
			return all.String(), err
		}
		if m.GetType() == agent.ProcessIO_DATA {
			all.Write(m.GetData().GetData())
		}
		if until != "" && strings.Contains(all.String(), until) {
			return all.String(), nil
		}
	}
}

func (d *driver) session() error {
	id := d.child("session")
	answer, err := d.sender.Send(d.ctx, calls.NonStreaming(calls.LaunchNestedContainerSession(id, shell("read x; echo $x; exit 4"), nil)))
	if err != nil {
		return err
	}
	defer answer.Close()
	input := calls.Empty().Push(
		calls.AttachContainerInput(id),
		calls.AttachContainerInputData([]byte("over ")), calls.AttachContainerInputData([]byte("there\n")),
	)
	if err := calls.SendNoData(d.ctx, d.sender, input); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	out, err := read(answer, "")
	if out != "over there\n" {
		return fmt.Errorf("output %q, %w", out, err)
	}
	if err := d.wait(id, 4<<8); err != nil {
		return err
	}
	return d.tell(calls.RemoveNestedContainer(id))
}

func (d *driver) terminal() error {
	id := d.child("terminal")
	typ := mesos.ContainerInfo_MESOS
	tty := &mesos.ContainerInfo{Type: &typ, TTYInfo: &mesos.TTYInfo{WindowSize: &mesos.TTYInfo_WindowSize{Rows: 31, Columns: 99}}}
	answer, err := d.sender.Send(d.ctx, calls.NonStreaming(calls.LaunchNestedContainerSession(id, shell("stty size; read x; stty size; echo got $x"), tty)))
	if err != nil {
		return err
	}
	defer answer.Close()
	if out, err := read(answer, "31 99"); err != nil {
		return fmt.Errorf("output %q, %w", out, err)
	}
	input := calls.Empty().Push(
		calls.AttachContainerInput(id),
		calls.AttachContainerInputTTY(&mesos.TTYInfo{WindowSize: &mesos.TTYInfo_WindowSize{Rows: 41, Columns: 77}}),
		calls.AttachContainerInputData([]byte("word\n")),
	)
	if err := calls.SendNoData(d.ctx, d.sender, input); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	out, err := read(answer, "")
	if !strings.Contains(out, "41 77") || !strings.Contains(out, "got word") {
		return fmt.Errorf("output %q, %w", out, err)
	}
	return d.wait(id, 0)
}

func (d *driver) errors() error {
	unknown := d.child("unknown")
	for _, call := range []*agent.Call{
		calls.KillNestedContainer(unknown),
		calls.LaunchNestedContainer(d.child("bad"), &mesos.CommandInfo{}, nil),
		calls.LaunchNestedContainer(mesos.ContainerID{Value: "a/b", Parent: &d.parent}, shell("true"), nil),
	} {
		if d.tell(call) == nil {
			return fmt.Errorf("%v was taken", call)
		}
	}
	if _, err := d.ask(calls.WaitNestedContainer(unknown)); err == nil {
		return errors.New("nobody was waited for")
	}
	if _, err := d.sender.Send(d.ctx, calls.NonStreaming(calls.AttachContainerOutput(unknown))); err == nil {
		return errors.New("nobody was attached to")
	}
	return nil
}
