"""Counts JSON plays per video with pynsq, as a user of that library would: ADDRESS TOPIC CHANNEL N.

The last line on stdout is the result as JSON.
"""

import collections
import json
import sys
import time

import nsq
import tornado.ioloop

address, topic, channel, messages = sys.argv[1:]
messages = int(messages)
counts = collections.Counter()
first = None
counted = 0


def handle(message):
    global first, counted
    first = first or time.monotonic()
    counts[json.loads(message.body)["video_id"]] += 1
    counted += 1
    if counted == messages:
        seconds = time.monotonic() - first
        print(json.dumps({"counted": counted, "videos": len(counts), "seconds": seconds}))
        # Behind the FIN of this one.
        tornado.ioloop.IOLoop.current().add_callback(tornado.ioloop.IOLoop.current().stop)
    return True


nsq.Reader(
    topic=topic, channel=channel, nsqd_tcp_addresses=[address], max_in_flight=2500, message_handler=handle
)
nsq.run()
