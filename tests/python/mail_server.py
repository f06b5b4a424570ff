"""A mail server: aiosmtpd on a free port of this host.

Its argument is a JSON object: `tls` ("none", "starttls", "tls") with `cert` and `key`, and perhaps `user`
and `password`. It prints its port, then one line of JSON a mail, and ends when its standard input does.
The name in an address decides what becomes of it: `unknown` and `relay` are refused for ever, `grey` the
first time, `busy` always for now; the answer to a mail for `lost` is lost, and `picky` refuses the mail.
"""

import asyncio
import email
import email.policy
import json
import logging
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

REFUSED = {
    "unknown": "550 5.1.1 no such user here",
    "relay": "554 5.7.1 relay access denied",
    "busy": "452 4.2.2 mailbox full",
}


class Handler:
    def __init__(self):
        self.grey = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.split("@")[0]
        if name in REFUSED:
            return REFUSED[name]
        if name == "grey" and address not in self.grey:
            self.grey.add(address)
            return "450 4.7.1 greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        names = {address.split("@")[0] for address in envelope.rcpt_tos}
        if "picky" in names:
            return "554 5.7.1 this looks like spam"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {
            part.get_content_type(): part.get_content()
            for part in message.walk()
            if not part.is_multipart()
        }
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "encrypted": server.transport.get_extra_info("ssl_object") is not None,
            "login": session.auth_data,
            "headers": [[name, str(value)] for name, value in message.items()],
            "parts": parts,
        }
        print(json.dumps(mail), flush=True)
        if "lost" in names:
            server.transport.abort()
        return "250 OK"


async def main():
    config = json.loads(sys.argv[1])
    context = None
    if config["tls"] != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(config["cert"], config["key"])
    upgraded = config["tls"] == "starttls"

    def authenticate(server, session, envelope, mechanism, data):
        user, password = data.login.decode(), data.password.decode()
        right = (user, password) == (config["user"], config["password"])
        return AuthResult(success=right, handled=False, auth_data=user)

    handler = Handler()

    def serve():
        return SMTP(
            handler,
            hostname="mail.test",
            tls_context=context if upgraded else None,
            require_starttls=upgraded,
            auth_required="user" in config,
            auth_require_tls=upgraded,
            authenticator=authenticate,
        )

    whole = context if config["tls"] == "tls" else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(serve, "127.0.0.1", 0, ssl=whole)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


# A client that goes away in the middle is part of the tests.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)
asyncio.run(main())
