"""What a broker owes its clients, tried with paho-mqtt: HOST PORT USER PASSWORD VERSION.

Fails with a traceback at the first thing that is wrong, and prints `passed` at the end.
"""

import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

HOST, PORT, USER, PASSWORD, VERSION = sys.argv[1:]
V5 = VERSION == "5"
DEADLINE = 30


class Client:
    """One client whose messages and answers are collected."""

    def __init__(self, name, lasting=False, will=None):
        self.messages = queue.Queue()
        self.answers = queue.Queue()
        self.connected = queue.Queue()
        kind = {"clean_session": not lasting} if not V5 else {}
        self.mqtt = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=mqtt.MQTTv5 if V5 else mqtt.MQTTv311,
            **kind,
        )
        self.mqtt.username_pw_set(USER, PASSWORD)
        if will:
            self.mqtt.will_set(*will)
        self.mqtt.on_message = lambda _c, _u, message: self.messages.put(message)
        self.mqtt.on_subscribe = lambda _c, _u, _id, codes, _p: self.answers.put(codes)
        self.mqtt.on_unsubscribe = lambda _c, _u, _id, codes, _p: self.answers.put(codes)
        self.mqtt.on_connect = lambda _c, _u, flags, code, _p: self.connected.put((flags, code))
        extra = {}
        if V5:
            properties = Properties(PacketTypes.CONNECT)
            if lasting:
                properties.SessionExpiryInterval = 600
            extra = {"clean_start": not lasting, "properties": properties}
        self.mqtt.connect(HOST, int(PORT), **extra)
        self.mqtt.loop_start()
        flags, code = self.connected.get(timeout=DEADLINE)
        assert not code.is_failure, code
        self.session_present = flags.session_present

    def subscribe(self, *arguments, **named):
        self.mqtt.subscribe(*arguments, **named)
        codes = self.answers.get(timeout=DEADLINE)
        return [code.value for code in codes]

    def unsubscribe(self, topic):
        self.mqtt.unsubscribe(topic)
        self.answers.get(timeout=DEADLINE)

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        sent = self.mqtt.publish(topic, payload, qos, retain, properties)
        sent.wait_for_publish(timeout=DEADLINE)
        assert sent.is_published(), topic

    def message(self):
        return self.messages.get(timeout=DEADLINE)

    def nothing(self):
        """Checks that no message is on its way, with one of its own."""
        self.subscribe("nothing/else", 0)
        self.publish("nothing/else", "nothing else", 1)
        message = self.message()
        assert message.topic == "nothing/else", (message.topic, message.payload)
        self.unsubscribe("nothing/else")

    def goodbye(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def die(self):
        """Ends as a process that is killed: without DISCONNECT."""
        self.mqtt.loop_stop()
        self.mqtt.socket().close()


def every_qos_arrives_as_the_lower_of_the_two(reader, writer):
    for granted in range(3):
        assert reader.subscribe("qos/+", granted) == [granted]
        for published in range(3):
            writer.publish(f"qos/{published}", b"\x00\xff", published)
            message = reader.message()
            expected = (f"qos/{published}", b"\x00\xff", min(granted, published), False)
            got = (message.topic, message.payload, message.qos, message.retain)
            assert got == expected, (got, expected)
    reader.unsubscribe("qos/+")


def many_messages_arrive_once_and_in_order(reader, writer):
    for qos in (1, 2):
        reader.subscribe("many", qos)
        for number in range(300):
            writer.mqtt.publish("many", str(number), qos)
        for number in range(300):
            assert reader.message().payload == str(number).encode()
        reader.nothing()
        reader.unsubscribe("many")


def retained_messages_stand(reader, writer):
    for payload, qos in (("one", 0), ("two", 2)):
        writer.publish("kept", payload, qos, True)
        writer.publish("sync", "", 1)
    reader.subscribe("kept", 2)
    message = reader.message()
    assert (message.payload, message.qos, message.retain) == (b"two", 2, True)
    writer.publish("kept", "", 1, True)
    message = reader.message()
    assert (message.payload, message.retain) == (b"", False)
    reader.unsubscribe("kept")
    reader.subscribe("kept", 2)
    reader.nothing()
    reader.unsubscribe("kept")


def a_will_tells_of_a_lost_client(reader):
    reader.subscribe("will", 2)
    for end, expected in (("goodbye", False), ("die", True)):
        client = Client("dying", will=("will", "gone", 2, False))
        getattr(client, end)()
        if expected:
            message = reader.message()
            assert (message.payload, message.qos) == (b"gone", 2)
        reader.nothing()
    reader.unsubscribe("will")


def a_session_goes_on(writer):
    client = Client("lasting", lasting=True)
    assert not client.session_present
    client.subscribe("lasting", 2)
    client.die()
    for number in range(20):
        writer.publish("lasting", str(number), 1 + number % 2)
    client = Client("lasting", lasting=True)
    assert client.session_present
    got = [int(client.message().payload) for _ in range(20)]
    # The order holds for each QoS.
    assert sorted(got) == list(range(20)), got
    assert [n for n in got if n % 2] == list(range(1, 20, 2)), got
    client.nothing()
    client.goodbye()
    client = Client("lasting")
    assert not client.session_present
    client.goodbye()


def a_group_shares_its_load(writer):
    members = [Client("member-1"), Client("member-2")]
    for member in members:
        assert member.subscribe("$share/group/load/+", 2) == [2]
    for number in range(60):
        writer.publish(f"load/{number}", str(number), number % 3)
    got = []
    for member in members:
        member.got = 0
    deadline = time.monotonic() + DEADLINE
    while len(got) < 60 and time.monotonic() < deadline:
        for member in members:
            try:
                got.append(int(member.messages.get(timeout=0.05).payload))
                member.got += 1
            except queue.Empty:
                pass
    assert sorted(got) == list(range(60)), sorted(got)
    for member in members:
        assert member.got >= 10, member.got
        member.nothing()
        member.goodbye()


def properties_are_passed_on(reader, writer):
    own = Properties(PacketTypes.PUBLISH)
    own.PayloadFormatIndicator = 1
    own.ContentType = "text/plain"
    own.ResponseTopic = "answer/here"
    own.CorrelationData = b"\x00\x01"
    own.MessageExpiryInterval = 100
    own.UserProperty = [("b", "1"), ("a", "2"), ("b", "1")]
    identifier = Properties(PacketTypes.SUBSCRIBE)
    identifier.SubscriptionIdentifier = 300
    options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
    reader.subscribe("own", options=options, properties=identifier)
    writer.publish("own", "x", 1, True, own)
    message = reader.message()
    got = message.properties
    assert message.retain
    assert got.PayloadFormatIndicator == 1
    assert got.ContentType == "text/plain"
    assert got.ResponseTopic == "answer/here"
    assert got.CorrelationData == b"\x00\x01"
    assert 95 <= got.MessageExpiryInterval <= 100
    assert got.UserProperty == own.UserProperty
    assert got.SubscriptionIdentifier == [300]
    reader.publish("own", "mine", 1)
    reader.nothing()
    writer.publish("own", "", 1, True)
    reader.message()
    reader.unsubscribe("own")


def main():
    reader, writer = Client("reader"), Client("writer")
    every_qos_arrives_as_the_lower_of_the_two(reader, writer)
    many_messages_arrive_once_and_in_order(reader, writer)
    retained_messages_stand(reader, writer)
    a_will_tells_of_a_lost_client(reader)
    a_session_goes_on(writer)
    a_group_shares_its_load(writer)
    if V5:
        properties_are_passed_on(reader, writer)
    reader.goodbye()
    writer.goodbye()
    print("passed")


main()
