#!/usr/bin/env bash
# Makes a test authority, certificates of a server and of a client, and the ssl.config of mutual TLS:
#   serving/model_server/make_tls.sh DIRECTORY [HOST ...]
# HOST: the names that clients reach the server by; localhost if there is none. In production your own authority
# issues them; ssl.config holds the text of the PEM files, not their names.
set -euo pipefail
directory=${1:?usage: make_tls.sh DIRECTORY [HOST ...]}
shift
hosts=("${@:-localhost}")
mkdir -p "$directory"
cd "$directory"
umask 077

openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj "/CN=test authority" -keyout ca.key -out ca.pem 2>/dev/null

issue() { # NAME SUBJECT ALTERNATIVE_NAMES USAGE
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -out "$1.pem" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=%s\n' "$3" "$4") 2>/dev/null
    rm "$1.csr"
}
names=$(printf ',DNS:%s' "${hosts[@]}")
issue server "${hosts[0]}" "${names#,},IP:127.0.0.1" serverAuth
issue client client DNS:client clientAuth

field() { # NAME FILE: the file as a string of the text format, a line of it at a time
    echo "$1:"
    awk '{ printf "  \"%s\\n\"\n", $0 }' "$2"
}
{
    field server_key server.key
    field server_cert server.pem
    field custom_ca ca.pem
    echo "client_verify: true" # false: any client that trusts ca.pem may ask
} >ssl.config
