# shellcheck shell=bash
# Certificates, keys and tokens of one control plane. They live and die with it.

ADMIN_TOKEN='' MANAGER_TOKEN=''

random_token() { head -c 24 /dev/urandom | base64 | tr -d '+/=\n'; }

make_pki() { # DIR
  local pki=$1/pki
  mkdir -p "$pki"
  # P-256 rather than RSA: generating three RSA keys takes longer than all else here.
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=dci-operator-local \
      -addext keyUsage=critical,keyCertSign,digitalSignature -keyout "$pki/ca.key" -out "$pki/ca.crt"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=kube-apiserver \
      -keyout "$pki/server.key" -out "$pki/server.csr"
    openssl x509 -req -in "$pki/server.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 30 \
      -out "$pki/server.crt" -extfile <(
        printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' 'extendedKeyUsage=serverAuth' \
          'subjectAltName=IP:127.0.0.1,IP:10.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc'
      )
    openssl ecparam -name prime256v1 -genkey -noout -out "$pki/service-account.key"
  } >"$1/logs/openssl.log" 2>&1 || {
    tail -n 20 "$1/logs/openssl.log" >&2
    die "the certificates could not be made (is openssl 1.1.1 or newer installed?)"
  }
  # Tokens and not client certificates: a proxy that ends TLS, as the fault tests have one, can pass a token on.
  ADMIN_TOKEN=$(random_token)
  MANAGER_TOKEN=$(random_token)
  # The controller manager is an administrator too: with an account for each of its controllers it would take longer to
  # start, and whose permissions those are is not what is tested here.
  printf '%s\n' "$ADMIN_TOKEN,admin,admin,system:masters" \
    "$MANAGER_TOKEN,system:kube-controller-manager,manager,system:masters" >"$pki/tokens.csv"
}

write_kubeconfig() { # FILE URL CA-FILE TOKEN
  cat >"$1" <<CONFIG
apiVersion: v1
kind: Config
current-context: local
clusters:
  - name: local
    cluster: {server: "$2", certificate-authority-data: $(base64 -w 0 "$3")}
users:
  - name: admin
    user: {token: $4}
contexts:
  - name: local
    context: {cluster: local, user: admin, namespace: default}
CONFIG
}
