// An OpenID provider on a free port of the loopback interface, for the client and the people that argv names.
//
//   node provider.mjs '{"client_id", "client_secret", "redirect_uri", "people": {login: {claims}}}'
//
// It prints one line of JSON, {"issuer"}, when it is ready, and ends when its standard input does.
// It insists on PKCE. Its development pages ask whoever comes for a login (a key of `people`) and for consent.
import { createServer } from 'node:http';

import { Provider } from 'oidc-provider';

const wanted = JSON.parse(process.argv[2]);
const server = createServer();

server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: wanted.client_id,
        client_secret: wanted.client_secret,
        redirect_uris: [wanted.redirect_uri],
        response_types: ['code'],
        grant_types: ['authorization_code'],
        token_endpoint_auth_method: 'client_secret_post',
      },
    ],
    pkce: { required: () => true },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'picture'] },
    cookies: { keys: ['of a test'] },
    features: { devInteractions: { enabled: true } },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: `subject-${id}`, ...wanted.people[id] }) }),
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});

process.stdin.on('end', () => process.exit(0)).resume();
