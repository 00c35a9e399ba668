"""An MCP server on the official package takes task tokens by that package's own authorization hooks, and asks the issuer of each whether
it is good at this moment; an MCP client of the same package calls a tool with one.

usage: mcp_server.py IP URL ANCHORS.pem SVIDS AUDIENCE ELSEWHERE (see workloads.py)
The server listens on IP:8090 and calls itself AUDIENCE; its entry serves ELSEWHERE too. Prints one JSON object.
"""

import asyncio
import json
import sys
import threading
import time

import requests
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from workloads import Place, Workload


class Introspection(TokenVerifier):
    """Asks the issuer (RFC 7662), as the service that the token is for."""

    def __init__(self, service: Workload, endpoint: str) -> None:
        self.service, self.endpoint = service, endpoint

    async def verify_token(self, token: str) -> AccessToken | None:
        answer = await asyncio.to_thread(self.service.introspect_token, self.endpoint, token=token)
        claims = answer.json()
        if not claims.get("active"):
            return None
        scopes = claims.get("scope", "").split()
        return AccessToken(token=token, client_id=claims["client_id"], scopes=scopes, expires_at=claims["exp"], resource=claims["aud"], subject=claims["sub"], claims=claims)


def serve(place: Place, audience: str) -> str:
    auth = AuthSettings(issuer_url=place.metadata["issuer"], resource_server_url=audience, required_scopes=["read"], validate_token_resource=True)
    server = MCPServer("files", token_verifier=Introspection(place.workload("files"), place.endpoint("introspection")), auth=auth)

    @server.tool()
    def who() -> str:
        """Who calls."""
        return json.dumps(get_access_token().claims["act"])

    app = server.streamable_http_app(host=place.ip)
    listener = uvicorn.Server(uvicorn.Config(app, host=place.ip, port=8090, log_level="error"))
    threading.Thread(target=listener.run, daemon=True).start()
    while not listener.started:
        time.sleep(0.05)
    return f"http://{place.ip}:8090/mcp"


async def calls(address: str, token: str) -> dict:
    from mcp.client.streamable_http import create_mcp_http_client

    async with create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http:
        async with Client(streamable_http_client(address, http_client=http)) as client:
            answer = await client.call_tool("who", {})
            return json.loads(answer.content[0].text)


def knock(address: str, token: str | None) -> tuple[int, str]:
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}
    answer = requests.post(address, json=body, headers=headers, timeout=20)
    return answer.status_code, answer.headers.get("www-authenticate", "")


def main() -> None:
    place, (audience, elsewhere) = Place(sys.argv[1:5]), sys.argv[5:]
    address = serve(place, audience)
    planner, token = place.workload("planner"), place.endpoint("token")

    def begin(resource: str, scope: str) -> dict:
        return planner.fetch_token(token, grant_type="client_credentials", resource=resource, scope=scope, task_purpose="a call")

    good, other, narrow, short = begin(audience, "read"), begin(elsewhere, "read"), begin(audience, "list"), begin(audience, "read")
    report = {
        "caller": asyncio.run(calls(address, good["access_token"])),
        "open": knock(address, good["access_token"])[0],
        "none": knock(address, None),
        "elsewhere": knock(address, other["access_token"])[0],
        "narrow": knock(address, narrow["access_token"])[0],
    }
    planner.revoke_token(place.endpoint("revocation"), token=good["access_token"])
    report["completed"] = knock(address, good["access_token"])[0]
    time.sleep(short["expires_in"] + 1)
    report["expired"] = knock(address, short["access_token"])[0]
    print(json.dumps(report))


main()
