"""Publishes one payload with paho-mqtt: HOST PORT USER PASSWORD VERSION TOPIC HEX."""

import sys

import paho.mqtt.client as mqtt

host, port, user, password, version, topic, payload = sys.argv[1:]
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    protocol={"311": mqtt.MQTTv311, "5": mqtt.MQTTv5}[version],
)
client.username_pw_set(user, password)
client.connect(host, int(port))
client.loop_start()
message = client.publish(topic, bytes.fromhex(payload), qos=1)
message.wait_for_publish(timeout=30)
print("acknowledged" if message.is_published() else "lost")
client.disconnect()
client.loop_stop()
