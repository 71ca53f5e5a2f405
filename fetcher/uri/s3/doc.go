// Package s3 reads "s3://BUCKET/KEY" URIs from Amazon S3 and servers that speak its
// protocol.
//
// Settings and credentials are those of other tools: AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, else the profile AWS_PROFILE of the
// shared files (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, ~/.aws/…); without
// credentials requests are anonymous. AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL names
// another server, which is asked with the bucket in the path; AWS_REGION and
// AWS_DEFAULT_REGION the region. Metadata services are never asked.
//
// Requests are signed by Signature Version 4, in a hundred lines here: the SDK of
// Amazon would be larger than the rest of berth. A redirect is followed only as far
// as the answer names the bucket's region; nothing signed goes to another host.
package s3
