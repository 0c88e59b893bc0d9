package actor

import (
	"reflect"

	"github.com/whispering-woods/ww/actor/codec"
)

// recordType is what the state machine knows of one kind of edit record.
type recordType struct {
	empty func() codec.Record
	// apply changes the state and returns the result of the caller. An error
	// means that the record does not fit the state: a damaged log or a bug.
	apply func(s *State, r codec.Record) (any, error)
	// answer is the type of the result that the retry cache keeps for a client; nil
	// if only the namenode itself makes such records.
	answer reflect.Type
}

// recordTypes is the one table of edit records: a new kind is a struct in codec and a row here.
var recordTypes = [...]recordType{
	codec.KindFormat:          ofNamenode(applyFormat),
	codec.KindEpoch:           ofNamenode(applyEpoch),
	codec.KindNode:            ofNamenode(applyNode),
	codec.KindMkdir:           ofClient(applyMkdir),
	codec.KindCreate:          ofClient(applyCreate),
	codec.KindAddChunks:       ofClient(applyAddChunks),
	codec.KindComplete:        ofClient(applyComplete),
	codec.KindAbandon:         ofClient(applyAbandon),
	codec.KindAppend:          ofClient(applyAppend),
	codec.KindRecoverPipeline: ofClient(applyRecoverPipeline),
	codec.KindUpdatePipeline:  ofClient(applyUpdatePipeline),
	codec.KindRename:          ofClient(applyRename),
	codec.KindRemove:          ofClient(applyRemove),
	codec.KindRecoverLease:    ofClient(applyRecoverLease),
	codec.KindRecovered:       ofNamenode(applyRecovered),
	codec.KindTruncate:        ofClient(applyTruncate),
	codec.KindSettling:        ofNamenode(applySettling),
	codec.KindNodeDuty:        ofNamenode(applyNodeDuty),
	codec.KindNodeName:        ofNamenode(applyNodeName),
	codec.KindReplication:     ofClient(applyReplication),
	codec.KindTrash:           ofClient(applyTrash),
}

// recordPointer is a pointer to the struct T of a record.
type recordPointer[T any] interface {
	*T
	codec.Record
}

// ofNamenode is the row of records that no client's request makes.
func ofNamenode[T any, P recordPointer[T]](apply func(*State, P) (any, error)) recordType {
	return recordType{
		empty: func() codec.Record { return P(new(T)) },
		apply: func(s *State, r codec.Record) (any, error) { return apply(s, r.(P)) },
	}
}

// ofClient is the row of records that clients' requests make, and perhaps the namenode too.
func ofClient[T, R any, P recordPointer[T]](apply func(*State, P) (*R, error)) recordType {
	row := ofNamenode(func(s *State, r P) (any, error) {
		result, err := apply(s, r)
		if err != nil {
			return nil, err
		}
		return result, nil
	})
	row.answer = reflect.TypeFor[*R]()
	return row
}

// newRecord makes an empty record of a kind; nil if the kind is not known.
func newRecord(kind codec.Kind) codec.Record {
	if int(kind) >= len(recordTypes) || recordTypes[kind].empty == nil {
		return nil
	}
	return recordTypes[kind].empty()
}

// answerKind is the kind of the records that give results of this type to clients.
func answerKind(result any) codec.Kind {
	wanted := reflect.TypeOf(result)
	for kind := range recordTypes {
		if recordTypes[kind].answer == wanted {
			return codec.Kind(kind)
		}
	}
	return 0
}

// newAnswer makes an empty result of a client's record of a kind; nil if there is none.
func newAnswer(kind codec.Kind) any {
	if int(kind) >= len(recordTypes) || recordTypes[kind].answer == nil {
		return nil
	}
	return reflect.New(recordTypes[kind].answer.Elem()).Interface()
}
