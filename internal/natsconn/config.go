package natsconn

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/neolith/daemon-gateway/internal/loopback"
	"github.com/neolith/daemon-gateway/internal/settings"
)

// Config says where NATS is and how to authenticate there.
type Config struct {
	NATSURL             []settings.URL `name:"nats-url" default:"nats://127.0.0.1:4222" group:"NATS" help:"URLs of the NATS servers; the others of their cluster are found through them."`
	NATSCredsFile       string         `name:"nats-creds-file" group:"NATS" help:"File with the credentials (JWT and key) of this node's NATS user."`
	NATSNkeyFile        string         `name:"nats-nkey-file" group:"NATS" help:"File with the seed (SU…) of this node's NATS user, where the server knows users by nkeys; read when the node starts."`
	NATSInboxPrefix     string         `name:"nats-inbox-prefix" default:"_INBOX" group:"NATS" help:"What the subjects begin with on which this node is answered. With a prefix of its own, which nobody else's NATS user may subscribe to, nobody else can read the answers. The user must be permitted to subscribe to it and all below: PREFIX.>."`
	NATSTLSCA           string         `name:"nats-tls-ca" group:"NATS" help:"File with the certificates of the authorities that may sign a server's certificate; those of the system if not given."`
	NATSTLSCert         string         `name:"nats-tls-cert" group:"NATS" help:"File with this node's client certificate."`
	NATSTLSKey          string         `name:"nats-tls-key" group:"NATS" help:"File with the key of the client certificate."`
	NATSJetStreamDomain string         `name:"nats-jetstream-domain" group:"NATS" help:"Domain of the JetStream that holds the gateway's streams, where the servers of NATS_URL are leaf nodes of it, such as hub. Its requests then begin with $JS.hub.API in the place of $JS.API, and so must what the NATS users are permitted. All nodes must have the same. Unset: the JetStream of these servers themselves."`
	NATSTLSFirst        bool           `name:"nats-tls-first" group:"NATS" help:"Speak TLS before the server has said anything, as servers with handshake_first want it."`
}

// Validate reports what cannot be connected with: URLs, and files that are not
// there or hold something else. None of that is worth a try.
func (c Config) Validate(report func(setting, problem string)) {
	if len(c.urls()) == 0 {
		report("NATS_URL", "expected at least one URL")
	}
	if problem := CheckURLs(c.NATSURL...); problem != "" {
		report("NATS_URL", problem)
	}
	if c.NATSInboxPrefix != "" && nats.CustomInboxPrefix(c.NATSInboxPrefix)(&nats.Options{}) != nil || strings.ContainsAny(c.NATSInboxPrefix, " \t\r\n") {
		report("NATS_INBOX_PREFIX", "expected a subject without wildcards and without a dot at its end, such as _INBOX_edge")
	}
	if strings.ContainsAny(c.NATSJetStreamDomain, ".*> \t\r\n") {
		report("NATS_JETSTREAM_DOMAIN", "expected the domain alone, without dots, wildcards and spaces, such as hub")
	}
	if c.NATSCredsFile != "" && c.NATSNkeyFile != "" {
		report("NATS_NKEY_FILE", "expected none, since NATS_CREDS_FILE says who this node is")
	}
	if (c.NATSTLSCert == "") != (c.NATSTLSKey == "") {
		report("NATS_TLS_CERT", "expected together with NATS_TLS_KEY, or neither")
		return
	}
	for _, f := range c.files() {
		if err := readable(f.option); err != nil {
			report(f.setting, fmt.Sprintf("expected %s: %v", f.expected, err))
		}
	}
}

// urls are those of NATS_URL one by one.
func (c Config) urls() []string { return oneByOne(c.NATSURL) }

// oneByOne takes URLs apart: the library takes several in one, as a line of a file may
// have them.
func oneByOne(texts []settings.URL) (list []string) {
	for _, text := range texts {
		for one := range strings.SplitSeq(string(text), ",") {
			if one = strings.TrimSpace(one); one != "" {
				list = append(list, one)
			}
		}
	}
	return list
}

// CheckURLs says what is wrong with the first URL that cannot be connected to, or that
// has something in it which was meant to let somebody in and would be left out; "" if
// there is none. The library would take a name alone as well, which hides that
// something was forgotten.
func CheckURLs(texts ...settings.URL) string {
	for _, text := range oneByOne(texts) {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
			return "expected nats://[user:password@]host[:port] for each, or tls://, ws:// or wss://"
		case u.RawQuery != "" || strings.Contains(u.Path, "@"):
			return "expected user and password before the host, / in them as %2F and ? as %3F: what stands behind it has no effect"
		}
	}
	return ""
}

// file is a setting that names one, and what the library does with it.
type file struct {
	setting, expected string
	option            nats.Option
}

// files returns those that are given. The library reads them again for each
// connection, so that renewed ones need no restart; of an nkey it keeps the public
// part.
func (c Config) files() (files []file) {
	if c.NATSCredsFile != "" {
		files = append(files, file{"NATS_CREDS_FILE", "a file with the JWT and the key of a user", nats.UserCredentials(c.NATSCredsFile)})
	}
	if c.NATSNkeyFile != "" {
		files = append(files, file{"NATS_NKEY_FILE", "a file with the seed of a user", nkey(c.NATSNkeyFile)})
	}
	if c.NATSTLSCA != "" {
		files = append(files, file{"NATS_TLS_CA", "a file with certificates (PEM)", nats.RootCAs(c.NATSTLSCA)})
	}
	if c.NATSTLSCert != "" {
		files = append(files, file{"NATS_TLS_CERT", "files with a certificate and its key (PEM)", nats.ClientCert(c.NATSTLSCert, c.NATSTLSKey)})
	}
	return files
}

// JetStream returns the JetStream that holds the gateway's streams.
func (c Config) JetStream(nc *nats.Conn, options ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	if c.NATSJetStreamDomain == "" {
		return jetstream.New(nc, options...)
	}
	return jetstream.NewWithDomain(nc, c.NATSJetStreamDomain, options...)
}

// nkey is the library's option, which reads the file only once it is used.
func nkey(file string) nats.Option {
	return func(o *nats.Options) error {
		option, err := nats.NkeyOptionFromSeed(file)
		if err != nil {
			return err
		}
		return option(o)
	}
}

// reaching are the options that decide whether a server lets this node in.
func (c Config) reaching() (options []nats.Option) {
	for _, f := range c.files() {
		options = append(options, f.option)
	}
	if c.NATSTLSFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	return options
}

// readable reads what an option names, as the library will.
func readable(option nats.Option) error {
	var o nats.Options
	if err := option(&o); err != nil || o.UserJWT == nil {
		return err
	}
	if _, err := o.UserJWT(); err != nil {
		return err
	}
	_, err := o.SignatureCB(nil)
	return err
}

// Exposed reports whether a password may travel over a network as plain text:
// unless the URL or a file says so, the library speaks TLS only if the server asks
// for it.
func (c Config) Exposed() bool {
	if c.NATSTLSCA != "" || c.NATSTLSCert != "" || c.NATSTLSFirst {
		return false
	}
	return slices.ContainsFunc(c.urls(), func(text string) bool {
		u, err := url.Parse(text)
		return err == nil && u.User != nil && (u.Scheme == "nats" || u.Scheme == "ws") && !loopback.Is(u.Hostname())
	})
}

func (c Config) options() []nats.Option {
	return append(c.reaching(),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.FlusherTimeout(0), // the socket bounds each write
		// What is published while the server is away fails at once, and is
		// retried by whoever it belongs to. A buffer would send it after the
		// retries, or after its sender has given up.
		nats.ReconnectBufSize(-1),
		// A wrong password or permission may be mended on the server.
		nats.IgnoreAuthErrorAbort(),
	)
}
