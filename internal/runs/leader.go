package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// noMessage is the server's code for a subject without a message.
const noMessage = 10037

// fromLeader reads a key of the bucket from the leader of its stream. The usual reads may be answered by a replica that
// lags behind: a document that was created a moment ago is missing there. [jetstream.ErrKeyNotFound] from here is final.
func (s *Service) fromLeader(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	bucket := s.docs.Bucket()
	ask, err := json.Marshal(map[string]string{"last_by_subj": "$KV." + bucket + "." + key})
	if err != nil {
		return nil, 0, err
	}
	msg, err := s.js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+bucket, ask)
	if err != nil {
		return nil, 0, fmt.Errorf("ask the leader for %s: %w", key, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(msg.Data, &answer); {
	case err != nil:
		return nil, 0, fmt.Errorf("ask the leader for %s: %w", key, err)
	case answer.Error != nil && answer.Error.ErrorCode == noMessage:
		return nil, 0, jetstream.ErrKeyNotFound
	case answer.Error != nil:
		return nil, 0, fmt.Errorf("ask the leader for %s: %w", key, answer.Error)
	case answer.Message == nil:
		return nil, 0, errors.New("ask the leader for " + key + ": an empty answer")
	}
	if removed(answer.Message.Header) {
		return nil, 0, jetstream.ErrKeyNotFound
	}
	return answer.Message.Data, answer.Message.Sequence, nil
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
