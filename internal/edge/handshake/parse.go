package handshake

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// parse returns the request that the text begins with, and its length, if it is a
// usual upgrade: GET, a plain path, HTTP/1.1, one Host, headers of visible ASCII on
// a line each, and none that say how a body or the connection goes on, or that
// net/http adds something for.
// Else it returns nil, whatever is wrong or only unusual.
func parse(text string) (r *http.Request, length int) {
	head, _, complete := strings.Cut(text, "\r\n\r\n")
	if !complete {
		return nil, 0
	}
	line, fields, _ := strings.Cut(head, "\r\n")
	target, ok := strings.CutPrefix(line, "GET ")
	if !ok {
		return nil, 0
	}
	if target, ok = strings.CutSuffix(target, " HTTP/1.1"); !ok {
		return nil, 0
	}
	path, query, asks := strings.Cut(target, "?")
	if !plain(path, &pathBytes) || path[0] != '/' || strings.Contains(path, "//") || asks && !plain(query, &queryBytes) {
		return nil, 0
	}
	r = &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}, RequestURI: target,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, 8), Body: http.NoBody,
	}
	if !parseFields(r, fields) || r.Host == "" || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return nil, 0
	}
	return r, len(head) + len("\r\n\r\n")
}

// parseFields reads the headers of a request; false: they are not the usual ones.
func parseFields(r *http.Request, fields string) bool {
	for fields != "" {
		var field string
		field, fields, _ = strings.Cut(fields, "\r\n")
		name, value, ok := strings.Cut(field, ":")
		if !ok || !plain(name, &nameBytes) {
			return false
		}
		value = strings.Trim(value, " \t")
		if value != "" && !plain(value, &valueBytes) {
			return false
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Host":
			if r.Host != "" || !plain(value, &hostBytes) {
				return false
			}
			r.Host = value
		case "Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Te", "Keep-Alive", "Http2-Settings", "Pragma":
			return false
		case "Connection":
			if !strings.EqualFold(value, "Upgrade") {
				return false
			}
			fallthrough
		default:
			r.Header[name] = append(r.Header[name], value)
		}
	}
	return true
}

// class is a set of bytes.
type class [256]bool

func classOf(others string) (c class) {
	for _, of := range []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", others} {
		for i := range len(of) {
			c[of[i]] = true
		}
	}
	return c
}

// What is usual in the parts of a request.
var (
	pathBytes  = classOf("/-_")
	queryBytes = classOf("-_.~=&+")
	nameBytes  = classOf("-")
	hostBytes  = classOf(".-:[]")
	valueBytes = classOf(" \t!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
)

// plain reports whether a text is not empty and consists of bytes of the class.
func plain(text string, of *class) bool {
	for i := range len(text) {
		if !of[text[i]] {
			return false
		}
	}
	return text != ""
}
