package kubelet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// streamed is what came over the streams of a command, or of a container.
type streamed struct{ stdout, stderr, status string }

// exitCode is that of the command, by the status that ends its streams.
func (s streamed) exitCode() int {
	var status struct {
		Status, Message string
		Details         struct {
			Causes []struct{ Reason, Message string }
		}
	}
	if err := json.Unmarshal([]byte(s.status), &status); err != nil {
		return -1
	}
	if status.Status == "Success" {
		return 0
	}
	for _, c := range status.Details.Causes {
		if code, err := strconv.Atoi(c.Message); c.Reason == "ExitCode" && err == nil {
			return code
		}
	}
	return -1
}

// execPath is where the kubelet executes a command in a container.
func execPath(pod, container string, more url.Values, command ...string) string {
	query := url.Values{"command": command, "output": {"1"}, "error": {"1"}}
	maps.Copy(query, more)
	return "/exec/default/" + pod + "-node/" + container + "?" + query.Encode()
}

// spdyConnection upgrades a request to SPDY.
func (n *node) spdyConnection(path, protocol string) (httpstream.Connection, error) {
	tripper, err := spdy.NewRoundTripper(insecureTLS())
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(n.Context(), http.MethodPost, "https://"+api+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set(httpstream.HeaderProtocolVersion, protocol)
	response, err := tripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	return tripper.NewConnection(response)
}

// exec executes a command with input, over SPDY, as older clients do.
func (n *node) exec(pod, container, input string, command ...string) (streamed, error) {
	return n.remote(execPath(pod, container, url.Values{"input": {"1"}}, command...), input)
}

func (n *node) remote(path, input string) (out streamed, err error) {
	c, err := n.spdyConnection(path, "v4.channel.k8s.io")
	if err != nil {
		return out, err
	}
	defer c.Close() //nolint:errcheck // all was read
	stop := context.AfterFunc(n.Context(), func() { _ = c.Close() })
	defer stop()
	streams := map[string]httpstream.Stream{}
	for _, kind := range []string{"error", "stdin", "stdout", "stderr"} {
		if streams[kind], err = c.CreateStream(http.Header{"Streamtype": {kind}}); err != nil {
			return out, err
		}
	}
	_ = streams["error"].Close() // nothing is sent by it
	var wg sync.WaitGroup
	for kind, into := range map[string]*string{"error": &out.status, "stdout": &out.stdout, "stderr": &out.stderr} {
		wg.Go(func() {
			b, _ := io.ReadAll(streams[kind]) // an error is seen in the status
			*into = string(b)
		})
	}
	if _, err := io.Copy(streams["stdin"], strings.NewReader(input)); err != nil {
		return out, err
	}
	_ = streams["stdin"].Close() // the end of the input
	wg.Wait()
	return out, nil
}

// execWebSocket executes a command over a WebSocket, as newer clients do.
func (n *node) execWebSocket(pod, container string, command ...string) (out streamed, err error) {
	config, err := websocket.NewConfig("wss://"+api+execPath(pod, container, nil, command...), "https://"+api)
	if err != nil {
		return out, err
	}
	config.TlsConfig, config.Protocol = insecureTLS(), []string{"v4.channel.k8s.io"}
	c, err := config.DialContext(n.Context())
	if err != nil {
		return out, err
	}
	defer c.Close() //nolint:errcheck // all was read
	var message []byte
	for {
		if err := websocket.Message.Receive(c, &message); err == io.EOF { //nolint:errorlint // as documented
			return out, nil
		} else if err != nil {
			return out, err
		}
		if len(message) == 0 {
			continue
		}
		switch text := string(message[1:]); message[0] {
		case 1:
			out.stdout += text
		case 2:
			out.stderr += text
		case 3:
			out.status += text
		default:
			return out, fmt.Errorf("a message on channel %d: %q", message[0], text)
		}
	}
}

// forward sends a request to a port of a pod, and returns what comes back.
func (n *node) forward(pod string, port int, request string) (string, error) {
	c, err := n.spdyConnection("/portForward/default/"+pod+"-node", "portforward.k8s.io")
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // all was read
	header := http.Header{"Port": {strconv.Itoa(port)}, "Requestid": {"1"}, "Streamtype": {"error"}}
	failure, err := c.CreateStream(header)
	if err != nil {
		return "", err
	}
	_ = failure.Close() // nothing is sent by it
	header.Set("Streamtype", "data")
	data, err := c.CreateStream(header)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(data, request); err != nil {
		return "", err
	}
	var answer bytes.Buffer
	_, err = io.Copy(&answer, data)
	if text, ferr := io.ReadAll(failure); err == nil && (ferr != nil || len(text) > 0) {
		err = fmt.Errorf("%s, %w", text, ferr)
	}
	return answer.String(), err
}
