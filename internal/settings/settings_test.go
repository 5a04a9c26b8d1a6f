package settings

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type example struct {
	Inner
	Named   named          `embed:""`
	Logging Logging        `embed:""`
	Port    uint16         `help:"Port that daemons connect to." default:"8080" min:"1" group:"Network"`
	Addr    string         `help:"Address." group:"Network"`
	Sources []netip.Prefix `name:"sources" help:"Who may connect; none: all." group:"Network"`
	Secure  bool           `default:"true" group:"Network"`
	Mode    string         `default:"fast" enum:"fast,safe" group:"Network"`
	Factor  float64        `default:"1.5" min:"0" group:"Network"`
	Hidden  int            `default:"7" hidden:""`
}

type Inner struct {
	ServerURL URL           `name:"server-url" help:"Server." group:"Server"`
	Token     Secret        `help:"Token." unless:"SECURE is false" group:"Server"`
	OldTokens []Secret      `help:"Tokens still accepted." group:"Server"`
	Timeout   time.Duration `default:"30s" min:"1ms" group:"Server"`
}

func (i *Inner) Validate(report func(setting, problem string)) {
	if i.Token == "bad" {
		report("TOKEN", "expected another token")
	}
	if strings.HasPrefix(string(i.ServerURL), "http:") {
		report("server-url", "expected a nats:// URL")
	}
}

type named struct {
	Interval Milliseconds `default:"30000" max:"1h" group:"Server"`
	Limit    ByteSize     `default:"256KiB" min:"1KiB" max:"1GiB" group:"Server"`
	Name     string       `required:"" help:"Unique name." group:"Server"`
}

func (n named) Validate(report func(setting, problem string)) {
	if n.Name == "wrong" {
		report("NAME", "expected a right one")
	}
}

func environment(pairs ...string) func(string) (string, bool) {
	values := map[string]string{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

func parse(t *testing.T, args []string, env ...string) (example, error) {
	t.Helper()
	var cfg example
	err := Parse("example", "An example.", &cfg, args, environment(env...))
	return cfg, err
}

func TestDefaultsEnvironmentFlags(t *testing.T) {
	t.Parallel()
	cfg, err := parse(t, []string{"--port=9000", "--interval", "5s", "--secure=false", "--sources=10.0.0.0/8", "--sources", "::1/128"},
		"NAME=n1", "PORT=1", "LIMIT=1MiB", "TIMEOUT=", "LOG_LEVEL=debug", "SERVER_URL=nats://user:pw@host:4222", "OLD_TOKENS=a, b,", "MODE=safe")
	require.NoError(t, err)
	require.Equal(t, uint16(9000), cfg.Port, "a flag wins over the environment")
	require.Equal(t, 5*time.Second, cfg.Named.Interval.Duration())
	require.Equal(t, MiB, cfg.Named.Limit)
	require.Equal(t, 30*time.Second, cfg.Timeout, "empty counts as not given")
	require.False(t, cfg.Secure)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}, cfg.Sources)
	require.Equal(t, []Secret{"a", "b"}, cfg.OldTokens)
	require.Equal(t, slog.LevelDebug, cfg.Logging.LogLevel)
	require.Equal(t, "safe", cfg.Mode)
	require.Equal(t, 1.5, cfg.Factor)
	require.Equal(t, 7, cfg.Hidden)
}

func TestDefault(t *testing.T) {
	t.Parallel()
	cfg := Default[example]()
	require.Equal(t, uint16(8080), cfg.Port)
	require.Equal(t, 256*KiB, cfg.Named.Limit)
	require.Equal(t, Milliseconds(30*time.Second), cfg.Named.Interval)
	require.True(t, cfg.Secure)
	require.Panics(t, func() {
		Default[struct {
			Port int `default:"x"`
		}]()
	})
}

// Every kind of mistake, all in one message, and no secret in it.
func TestEveryMistakeInOneMessage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := parse(t,
		[]string{"--prot=hunter2-a", "--unknown", "hunter2-b", "hunter2-c", "-x", "--port=70000", "--secure=perhaps", "--addr", "--mode=slow"},
		"TIMEOUT=soon", "INTERVAL=2h", "LIMIT=huge", "SOURCES=10.0.0.0/8,nowhere", "FACTOR=-1", "LOG_LEVEL=loud",
		"SERVER_URL=http://user:hunter2-d@host/", "TOKEN=bad", "OLD_TOKENS_FILE="+filepath.Join(dir, "missing"))
	var mistakes *Error
	require.ErrorAs(t, err, &mistakes)
	require.NotContains(t, err.Error(), "hunter2")
	got := map[string]string{}
	for _, p := range mistakes.Problems {
		got[p.Setting] = p.Text
	}
	require.Equal(t, map[string]string{
		"--prot":                    "unknown flag, --help lists all",
		"--unknown":                 "unknown flag, --help lists all",
		"argument 4":                "expected a flag of the form --name=value",
		"argument 5":                "expected a flag of the form --name=value",
		"--port (PORT)":             `got "70000", expected a whole number from 1 to 65535`,
		"--secure (SECURE)":         `got "perhaps", expected true or false`,
		"--addr (ADDR)":             "got no value, expected text",
		"--mode (MODE)":             `got "slow", expected one of fast, safe`,
		"--timeout (TIMEOUT)":       `got "soon", expected a duration such as 30s or 5m of at least 1ms`,
		"--interval (INTERVAL)":     `got "2h", expected a duration such as 30s, or milliseconds, of at most 1h`,
		"--limit (LIMIT)":           `got "huge", expected a size such as 65536, 256KiB or 10GiB, from 1KiB to 1GiB`,
		"--sources (SOURCES)":       `got "10.0.0.0/8,nowhere", expected a comma-separated list, each an address range such as 10.0.0.0/8`,
		"--factor (FACTOR)":         `got "-1", expected a number of at least 0`,
		"--log-level (LOG_LEVEL)":   `got "loud", expected debug, info, warn or error`,
		"--name (NAME)":             "not given, expected text",
		"--server-url (SERVER_URL)": `got "http://***@host/", expected a nats:// URL`,
		"--token (TOKEN)":           "got a secret (not shown), expected another token",
		"--old-tokens-file (OLD_TOKENS_FILE)": `got "` + filepath.Join(dir, "missing") +
			`", expected the path of a readable file: no such file or directory`,
	}, got)
	require.Len(t, mistakes.Problems, len(got), "each mistake is listed once")
	require.True(t, strings.HasPrefix(err.Error(), "example: 18 mistakes in the settings:\n  --prot: unknown"), err.Error())
}

// hepengju/redis-me#68, redis/redis-rb#863, cameronmaske/celery-once#135: what stands before a # in
// the password becomes the address, and the client goes there.
// Reports: bitnami/charts#9353, traefik/traefik#12078, DandyDeveloper/charts#359.
func TestAURLWithAnUnescapedPasswordIsRefused(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{
		"a # that makes a port":       "redis://:57#hunter2@h:6379",
		"a # that makes a host":       "nats://u:57#hunter2@h:4222",
		"a # that makes no port":      "redis://:a#hunter2@h:6379",
		"a / that makes a port":       "http://u:57/hunter2#@h",
		"a % that stands for nothing": "http://u:hunter2%zz@h",
	} {
		_, err := parse(t, nil, "NAME=n", "SERVER_URL="+address)
		require.ErrorContains(t, err, "%23", name)
		require.NotContains(t, err.Error(), "hunter2", name)
	}
	cfg, err := parse(t, nil, "NAME=n", "SERVER_URL=\tredis://:57%23%2F@h:6379\n")
	require.NoError(t, err)
	require.Equal(t, URL("redis://:57%23%2F@h:6379"), cfg.ServerURL, "without what is around it")
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	token, list, address := write("token", " spaced secret \r\n"), write("list", "one,with comma\ntwo\n\n"), write("url", "redis://h/0\n")

	cfg, err := parse(t, []string{"--token-file", token}, "NAME=n", "TOKEN=from-environment", "OLD_TOKENS_FILE="+list, "SERVER_URL_FILE="+address)
	require.NoError(t, err, "a flag's file wins over the environment's value")
	require.Equal(t, Secret(" spaced secret "), cfg.Token)
	require.Equal(t, []Secret{"one,with comma", "two"}, cfg.OldTokens)
	require.Equal(t, URL("redis://h/0"), cfg.ServerURL)

	// influxdata/telegraf#1378: editors of Windows begin a file with a mark.
	cfg, err = parse(t, nil, "NAME=n", "TOKEN_FILE="+write("marked", "\ufeffsecret\r\n"), "OLD_TOKENS_FILE="+write("list, marked", "\ufeffone\r\ntwo\r\n"))
	require.NoError(t, err)
	require.Equal(t, Secret("secret"), cfg.Token)
	require.Equal(t, []Secret{"one", "two"}, cfg.OldTokens)

	_, err = parse(t, nil, "NAME=n", "TOKEN=x", "TOKEN_FILE="+token)
	require.EqualError(t, err, "example: 1 mistake in the settings:\n  --token-file (TOKEN_FILE): given together with TOKEN, expected one of the two")

	_, err = parse(t, nil, "NAME=n", "TOKEN_FILE="+write("bad", "bad\n"))
	require.EqualError(t, err, "example: 1 mistake in the settings:\n  --token (TOKEN): got a secret (not shown), expected another token")

	_, err = parse(t, nil, "NAME=n", "TOKEN_FILE="+dir)
	require.ErrorContains(t, err, "is a directory")
}

func TestValidateOfAFilledStruct(t *testing.T) {
	t.Parallel()
	cfg := Default[example]()
	cfg.Token, cfg.Named.Name = "bad", "wrong"
	err := Validate(&cfg)
	require.EqualError(t, err, "2 mistakes in the settings:\n"+
		"  --token (TOKEN): got a secret (not shown), expected another token\n"+
		`  --name (NAME): is "wrong", expected a right one`)
	cfg.Token, cfg.Named.Name = "good", "right"
	require.NoError(t, Validate(&cfg))
	require.Equal(t, Secret("good"), cfg.Token)
}

func TestWrongTagsAreNoMistakeOfTheOperator(t *testing.T) {
	t.Parallel()
	var mistakes *Error
	var wrongDefault struct {
		Port int `default:"x"`
	}
	err := Parse("p", "", &wrongDefault, nil, environment())
	require.Error(t, err)
	require.False(t, errors.As(err, &mistakes))
	var twice struct {
		A     Secret `name:"a"`
		AFile string `name:"a-file"`
	}
	require.ErrorContains(t, Parse("p", "", &twice, nil, environment()), "A_FILE is described twice")
}

func TestLoggerForms(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"json": `"msg":"hello"`, "text": "msg=hello", "": `"msg":"hello"`} {
		path := filepath.Join(t.TempDir(), "log")
		file, err := os.Create(path)
		require.NoError(t, err)
		logger := Logging{LogLevel: slog.LevelWarn, LogFormat: format}.Logger(file)
		logger.Info("too quiet")
		logger.Warn("hello", "token", Secret("hunter2"), "url", URL("redis://:hunter2@h"), "took", 1499999*time.Microsecond)
		require.NoError(t, file.Close())
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(content), want)
		require.NotContains(t, string(content), "too quiet")
		require.Regexp(t, `took(=|":")1.5s`, string(content), "for people")
		require.NotContains(t, string(content), "hunter2")
	}
}

// Platforms give them to all programs, and the libraries of OpenTelemetry read more of
// them than are settings here.
func TestNoVariableOfOpenTelemetryIsTakenForAnotherOne(t *testing.T) {
	t.Parallel()
	var cfg struct {
		Service string `name:"otel-service-name" help:"The service."`
	}
	var stderr bytes.Buffer
	env := []string{"OTEL_SERVICE_NAMES=x", "OTEL_BSP_MAX_QUEUE_SIZE=1", "OTL_SERVICE_NAME=x"}
	_, proceed := Prepare(Program{Name: "example", Config: &cfg}, nil, environment(env...), env, io.Discard, &stderr)
	require.True(t, proceed)
	require.Equal(t, "example: the environment variable OTL_SERVICE_NAME is not read: did you mean OTEL_SERVICE_NAME?\n", stderr.String())
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		args    []string
		env     []string
		code    int
		proceed bool
		stdout  []string
		stderr  string
	}{
		{name: "run", env: []string{"NAME=n"}, proceed: true},
		{name: "mistakes", code: 2, stderr: "--name (NAME): not given"},
		{name: "help in spite of mistakes", args: []string{"--port=x", "--help"}, stdout: []string{
			"Usage: example [--name=value ...]\n\nAn example.\n",
			"\nNetwork:\n  --port=<number>  [PORT]  default 8080\n        Port that daemons connect to. A value from 1 to 65535.\n",
			"  --token-file=<path>  [TOKEN_FILE]\n        File that holds TOKEN.\n",
			"  --name=<text>  [NAME]  required\n",
			"\nRequired:\n  TOKEN unless SECURE is false\n  NAME\n\nExample:\n  TOKEN=t example\n",
			"docs/configuration.md",
			"  --sources=<list of CIDR>  [SOURCES]\n",
		}},
		{name: "version", args: []string{"--version"}, stdout: []string{"example ", "revision", "go1."}},
		{name: "print", args: []string{"--print-config", "--port=1"}, env: []string{"NAME=n", "TOKEN=hunter2", "SERVER_URL=redis://:hunter2@h:1/0?x=hunter2", "OLD_TOKENS=hunter2,hunter2", "ADDR=nats://u:hunter2@h"},
			stdout: []string{"# Server\nSERVER_URL=redis://***@h:1/0?***\nTOKEN=***\nOLD_TOKENS=***,***\nTIMEOUT=30s\nINTERVAL=30s\nLIMIT=256KiB\nNAME=n\n", "\n# Network\nPORT=1\nADDR=nats://***@h\nSOURCES=\nSECURE=true\nMODE=fast\nFACTOR=1.5\n", "LOG_LEVEL=INFO\n"}},
		{name: "a secret in a flag", args: []string{"--name=n", "--token", "hunter2"}, proceed: true,
			stderr: "--token (TOKEN) was given as a flag, which every user of this machine can read: give it as TOKEN_FILE"},
		{name: "a variable that is nearly a setting", env: []string{"NAME=n", "TIEMOUT=hunter2", "SEVER_URL=hunter2", "PATH=x"}, proceed: true,
			stderr: "example: the environment variable SEVER_URL is not read: did you mean SERVER_URL?\n" +
				"example: the environment variable TIEMOUT is not read: did you mean TIMEOUT?\n"},
		{name: "another program's variable beside the right one", env: []string{"NAME=n", "TIMEOUTS=1", "TIMEOUT=1s"}, proceed: true},
		{name: "a flag that is nearly a setting", args: []string{"--name=n", "--serverurl=hunter2"}, code: 2,
			stderr: "--serverurl: unknown flag, did you mean --server-url?"},
		{name: "a flag that is like nothing", args: []string{"--name=n", "--colour=hunter2"}, code: 2, stderr: "unknown flag, --help lists all"},
		// bunkerity/bunkerweb#3344, symfony/recipes#74: Docker's env files keep quotation marks.
		{name: "a secret in quotation marks", env: []string{"NAME=n", `TOKEN="hunter2"`, "OLD_TOKENS='hunter2'"}, proceed: true,
			stderr: "example: the quotation marks around --token (TOKEN) count as part of it\n" +
				"example: the quotation marks around --old-tokens (OLD_TOKENS) count as part of it\n"},
		{name: "a URL in quotation marks", env: []string{"NAME=n", `SERVER_URL="http://u:hunter2@h"`, "TOKEN=bad"}, code: 2},
		// bitnami/charts#9353, traefik/traefik#12078: echo ends what it writes with a line break.
		{name: "a secret with a line break", env: []string{"NAME=n", "TOKEN=hunter2\n"}, proceed: true,
			stderr: "example: the white space around --token (TOKEN), such as a line break at its end, counts as part of it\n"},
		{name: "a URL without one", args: []string{"--name=n", "--server-url=redis://h:1/0"}, proceed: true},
		{name: "print finds mistakes", args: []string{"--print-config"}, code: 2, stderr: "NAME"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			var cfg example
			code, proceed := Prepare(Program{Name: "example", Description: "An example.", Config: &cfg, Example: "TOKEN=t example"}, tt.args, environment(tt.env...), tt.env, &stdout, &stderr)
			require.Equal(t, tt.code, code)
			require.Equal(t, tt.proceed, proceed)
			for _, part := range tt.stdout {
				require.Contains(t, stdout.String(), part)
			}
			require.Contains(t, stderr.String(), tt.stderr)
			require.NotContains(t, stdout.String()+stderr.String(), "hunter2")
			require.NotContains(t, stdout.String(), "HIDDEN")
		})
	}
}

// What --print-config shows must be readable again, or operators cannot use it.
func TestPrintedConfigParses(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	var cfg, again example
	_, _ = Prepare(Program{Name: "example", Config: &cfg}, []string{"--print-config"}, environment("NAME=n", "INTERVAL=1500", "LIMIT=65536", "SOURCES=10.0.0.0/8,192.0.2.0/24", "TIMEOUT=1h"), nil, &stdout, &stdout)
	require.NoError(t, Parse("example", "", &again, nil, environment(strings.Split(stdout.String(), "\n")...)))
	require.Equal(t, cfg, again)
}

func TestWhatIsInForceIsShownAsPrinted(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	var cfg example
	_, _ = Prepare(Program{Name: "example", Config: &cfg}, []string{"--print-config"},
		environment("NAME=n", "SERVER_URL=nats://u:hunter2@h"), nil, &stdout, &stdout)
	inForce, err := InForce(&cfg)
	require.NoError(t, err)
	require.Equal(t, stdout.String(), inForce)
	require.NotContains(t, inForce, "hunter2")
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, Markdown(&out, Program{Name: "example", Description: "An example.", Config: &example{}}))
	for _, part := range []string{
		"# Configuration\n",
		"\n## `example`\n\nAn example.\n\n### Server\n\n| setting | type | default | meaning |\n|---|---|---|---|\n| `SERVER_URL` | URL | – | Server. |\n| `SERVER_URL_FILE` | path |",
		"| `PORT` | number | `8080` | Port that daemons connect to. A value from 1 to 65535. |\n",
		"| `MODE` | fast \\| safe | `fast` |",
		"| `NAME` | text | required | Unique name. |",
	} {
		require.Contains(t, out.String(), part)
	}
	require.NotContains(t, out.String(), "HIDDEN")
}

func TestCommonNode(t *testing.T) {
	t.Parallel()
	cfg := Default[Common]()
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Equal(t, host, cfg.Node())
	cfg.NodeName = "edge-0"
	require.Equal(t, "edge-0", cfg.Node())
	require.Equal(t, 30*time.Second, cfg.ShutdownTimeout)
}
