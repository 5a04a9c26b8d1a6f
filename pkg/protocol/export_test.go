package protocol

// ParseClientMessageSlowly is what ParseClientMessage asks where scanAck is in
// doubt.
var ParseClientMessageSlowly = parseClientMessage

// AckScanned reports whether scanAck takes a message.
func AckScanned(data []byte) bool {
	_, ok := scanAck(data)
	return ok
}
