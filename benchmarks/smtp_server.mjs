// nodemailer's smtp-server as the benchmark runs it: logins from a file, each message a file of its own with fsync.
// Usage: node smtp_server.mjs MODULES PORT CERTIFICATE LOGINS QUEUE
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [modules, port, certificate, logins, queue] = process.argv.slice(2);
const { SMTPServer } = createRequire(join(modules, 'package.json'))('smtp-server');
const passwords = new Map(readFileSync(logins, 'utf8').split('\n').map((line) => line.split(',')));
let number = 0;

async function store(stream, done) {
    try {
        const file = await open(join(queue, String(++number)), 'wx');
        for await (const part of stream) await file.write(part);
        await file.sync();
        await file.close();
        done(null, 'queued');
    } catch (error) {
        done(error);
    }
}

const pem = readFileSync(certificate);
new SMTPServer({
    secure: true,
    key: pem,
    cert: pem,
    disableReverseLookup: true,
    authMethods: ['PLAIN', 'LOGIN'],
    size: 52428800,
    onAuth: ({ username, password }, session, done) =>
        passwords.has(username) && passwords.get(username) === password
            ? done(null, { user: username })
            : done(new Error('wrong')),
    onData: (stream, session, done) => void store(stream, done),
}).listen(Number(port), '127.0.0.1');
