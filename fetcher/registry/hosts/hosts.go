package hosts

import (
	"net/http"
	"net/url"
	"time"
)

// Capability is what a host may be asked for.
type Capability uint8

// Capabilities. Who resolves a tag decides what it stands for and has to be
// trusted; content that is fetched by digest needs no trust.
const (
	Pull Capability = 1 << iota
	Resolve
	Push
	Referrers

	all = Pull | Resolve | Push | Referrers
)

// Host is one place where a registry's content can be had.
type Host struct {
	// URL is the root of its API, such as https://mirror.example/v2; nil is where the
	// registry's own name leads.
	URL *url.URL
	// Can is what it may be asked for.
	Can Capability
	// Header goes with each request to it.
	Header http.Header
	// CA are files with certificates to trust besides the system's; Client are pairs
	// of files, certificate and key, the second "" if the first has both.
	CA     []string
	Client [][2]string
	// SkipVerify accepts any certificate.
	SkipVerify bool
	// DialTimeout is 0 unless configured.
	DialTimeout time.Duration
	// From is the file or directory that says all this; "" without one.
	From string
}

// TLS says whether the host has settings for TLS.
func (h *Host) TLS() bool { return h.SkipVerify || len(h.CA) > 0 || len(h.Client) > 0 }
