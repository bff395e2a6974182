"""The producer and the consumer of pynsq for scripts/broker-kills, which kills the broker while they run: they write down what
was sent, acknowledged and delivered.

kills.py produce|consume NSQD TOPIC CHANNEL FILE RATE: RATE is publishes a second. They run until they are killed.
"""

import logging
import sys
import time

import nsq
import tornado.ioloop

logging.disable(logging.CRITICAL)
_, ROLE, NSQD, TOPIC, CHANNEL, FILE, RATE = sys.argv
# Not buffered: what is written is there when this is killed.
OUT = open(FILE, "wb", buffering=0)


def body(number):
    """What message `number` says; the other clients have the same."""
    return f"{number}:{chr(ord('a') + number % 26) * (number * 37 % 400)}".encode()


class Producing:
    """Publishes for ever: DPUB, PUB and MPUB in turn. `+9` says that all up to 9 are sent, `9` that it was acknowledged."""

    def __init__(self):
        self.writer = nsq.Writer([NSQD], reconnect_interval=0.05)
        self.number = self.turn = 0
        self.publish()

    def later(self, seconds):
        tornado.ioloop.IOLoop.current().call_later(seconds, self.publish)

    def publish(self):
        if not any(conn.connected() for conn in self.writer.conns.values()):
            self.later(0.02)
            return
        kind = self.turn % 10
        numbers = range(self.number + 1, self.number + (2 if kind < 4 else 6))
        self.number = numbers[-1]
        OUT.write(b"+%d\n" % self.number)
        answered = False

        def callback(_, data):
            nonlocal answered
            if not answered:
                answered = True
                tornado.ioloop.IOLoop.current().remove_timeout(timeout)
                OUT.write(b"".join(b"%d\n" % n for n in numbers) if data == b"OK" else f"# {data!r}\n".encode())
                self.later(1 / int(RATE))

        # pynsq forgets the callbacks of a connection that ends.
        timeout = tornado.ioloop.IOLoop.current().call_later(1, callback, None, "no answer within 1 s")
        if kind == 0:
            self.writer.dpub(TOPIC, self.turn % 30 * 100, body(self.number), callback=callback)
        elif kind < 4:
            self.writer.pub(TOPIC, body(self.number), callback=callback)
        else:
            self.writer.mpub(TOPIC, [body(n) for n in numbers], callback=callback)
        self.turn += 1


def take(message):
    """Writes down what came, before it is finished; some it gives back for later."""
    text = message.body.partition(b":")[0]
    if not text.isdigit() or body(int(text)) != message.body:
        OUT.write(f"? {message.body!r}\n".encode())
    elif int(text) % 7 == 3 and message.attempts < 3:
        message.enable_async()
        message.requeue(backoff=False, time_ms=int(text) % 20 * 50)
        return None
    else:
        OUT.write(text + b"\n")
    return True


def consume():
    reader = nsq.Reader(TOPIC, CHANNEL, take, nsqd_tcp_addresses=[NSQD], max_in_flight=50, max_tries=65535)
    host, port = NSQD.split(":")
    last = time.monotonic()

    def reconnect():
        # pynsq itself waits for 15 s, and the broker does not live that long here.
        nonlocal last
        if not reader.conns and time.monotonic() - last > 0.3:
            last = time.monotonic()
            reader.connection_attempts.clear()
            reader.connect_to_nsqd(host, int(port))

    tornado.ioloop.PeriodicCallback(reconnect, 50).start()


if ROLE == "produce":
    tornado.ioloop.IOLoop.current().add_callback(Producing)
else:
    consume()
nsq.run()
