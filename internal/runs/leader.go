package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// noMessage is the server's code for a subject without a message.
const noMessage = 10037

// errStale means that a document is older than what this process has seen of it: a copy that lags behind has answered,
// or a leader that does not know yet that it is none any more.
var errStale = errors.New("an old copy of the document has answered")

// read reads a key of the bucket: [jetstream.ErrKeyNotFound] when there is none. The usual reads may be answered by any
// copy. One that lags behind shows old documents, and none where one was created a moment ago, on which much is
// decided: a dependent fails, a message is dropped. So with several copies the leader is asked, and always before a key
// counts as missing.
func (s *Service) read(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	if s.cfg.Replicas == 1 {
		entry, err := s.docs.Get(ctx, key)
		if err == nil {
			return entry.Value(), entry.Revision(), nil
		}
		if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil, 0, err
		}
	}
	bucket := s.docs.Bucket()
	msg, err := s.fromLeader(ctx, "KV_"+bucket, "$KV."+bucket+"."+key)
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && removed(msg.Header) {
		return nil, 0, jetstream.ErrKeyNotFound
	}
	if err != nil {
		return nil, 0, err
	}
	return msg.Data, msg.Sequence, nil
}

// stored is a message as the leader of its stream has it.
type stored struct {
	Sequence uint64    `json:"seq"`
	Header   []byte    `json:"hdrs"`
	Data     []byte    `json:"data"`
	Time     time.Time `json:"time"`
}

// fromLeader reads the last message of a subject from the leader of its stream. [jetstream.ErrMsgNotFound] from here is
// final.
func (s *Service) fromLeader(ctx context.Context, stream, subject string) (*stored, error) {
	ask, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return nil, err
	}
	msg, err := s.js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, ask)
	if err != nil {
		return nil, fmt.Errorf("ask the leader of %s for %s: %w", stream, subject, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *stored             `json:"message"`
	}
	switch err := json.Unmarshal(msg.Data, &answer); {
	case err != nil:
		return nil, fmt.Errorf("ask the leader of %s for %s: %w", stream, subject, err)
	case answer.Error != nil && answer.Error.ErrorCode == noMessage:
		return nil, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return nil, fmt.Errorf("ask the leader of %s for %s: %w", stream, subject, answer.Error)
	case answer.Message == nil:
		return nil, fmt.Errorf("ask the leader of %s for %s: an empty answer", stream, subject)
	}
	return answer.Message, nil
}

// removed says whether the headers are those of a key that was deleted, purged, or outlived its time.
func removed(raw []byte) bool {
	if len(raw) == 0 {
		return false
	}
	header, err := nats.DecodeHeadersMsg(raw)
	if err != nil {
		return false
	}
	operation := header.Get("KV-Operation")
	return strings.EqualFold(operation, "DEL") || strings.EqualFold(operation, "PURGE") || header.Get("Nats-Marker-Reason") != ""
}
