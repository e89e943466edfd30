"""How each format looks. `$id` and `$secret` are the key; the rest is what a house like any other has beside it.

Shapes: the documentation and source of the programs that read these files (research/seeds-and-tools.md, 4.1).
"""

from __future__ import annotations

from string import Template
from typing import Final

PROFILE: Final = Template("""\
[$label]
aws_access_key_id = $id
aws_secret_access_key = $secret
""")

CONFIG: Final = Template("""\
[profile $label]
region = $region
output = json
aws_access_key_id = $id
aws_secret_access_key = $secret
""")

# In the order of names: so a service returns them that keeps no order.
ENV: Final = Template("""\
${prefix}AWS_ACCESS_KEY_ID=$id
${prefix}AWS_BUCKET=$bucket
${prefix}AWS_DEFAULT_REGION=$region
${prefix}AWS_SECRET_ACCESS_KEY=$secret
""")

SHELL: Final = Template("""\
export ${prefix}AWS_ACCESS_KEY_ID=$id
export ${prefix}AWS_SECRET_ACCESS_KEY=$secret
export ${prefix}AWS_DEFAULT_REGION=$region
aws s3 sync s3://$bucket/$stage /srv/$project --quiet
""")

HISTORY: Final = Template("""\
AWS_ACCESS_KEY_ID=$id AWS_SECRET_ACCESS_KEY=$secret aws s3 sync s3://$bucket ./$project --region $region
""")

ZSH_HISTORY: Final = Template("""\
: $seconds:0;AWS_ACCESS_KEY_ID=$id AWS_SECRET_ACCESS_KEY=$secret aws s3 sync s3://$bucket ./$project --region $region
""")

# The console writes a byte order mark and CRLF; until 2022 it gave a new user's whole row.
CSV: Final = Template("\ufeffAccess key ID,Secret access key\r\n$id,$secret")
CSV_2019: Final = Template(
    "User name,Password,Access key ID,Secret access key,Console login link\r\n"
    "$user,,$id,$secret,https://$console/console\r\n"
)

JSON: Final = Template("""\
{
  "service": "$project",
  "environment": "$stage",
  "aws": {
    "region": "$region",
    "bucket": "$bucket",
    "accessKeyId": "$id",
    "secretAccessKey": "$secret"
  }
}
""")

YAML: Final = Template("""\
service: $project
environment: $stage
storage:
  driver: s3
  bucket: $bucket
  region: $region
  access_key_id: $id
  secret_access_key: $secret
""")

COMPOSE: Final = Template("""\
services:
  $project:
    image: registry.internal/$project:latest
    restart: unless-stopped
    environment:
      APP_ENV: $stage
      AWS_ACCESS_KEY_ID: $id
      AWS_SECRET_ACCESS_KEY: $secret
      AWS_REGION: $region
      S3_BUCKET: $bucket
    volumes:
      - $project-data:/var/lib/$project
volumes:
  $project-data:
""")

TFVARS: Final = Template("""\
${label_}aws_region = "$region"
${label_}bucket_name = "$bucket"
${label_}access_key = "$id"
${label_}secret_key = "$secret"
""")

TFSTATE: Final = Template("""\
{
  "version": 4,
  "terraform_version": "1.9.8",
  "serial": 17,
  "lineage": "$uuid",
  "outputs": {},
  "resources": [
    {
      "mode": "managed",
      "type": "aws_iam_access_key",
      "name": "$project",
      "provider": "provider[\\"registry.terraform.io/hashicorp/aws\\"]",
      "instances": [
        {
          "schema_version": 0,
          "attributes": {
            "create_date": "$date",
            "encrypted_secret": null,
            "id": "$id",
            "key_fingerprint": null,
            "pgp_key": null,
            "secret": "$secret",
            "status": "Active",
            "user": "$user"
          },
          "sensitive_attributes": [],
          "private": "bnVsbA=="
        }
      ]
    }
  ],
  "check_results": null
}
""")

BACKEND: Final = Template("""\
terraform {
  backend "s3" {
    bucket     = "$bucket"
    key        = "$project/terraform.tfstate"
    region     = "$region"
    access_key = "$id"
    secret_key = "$secret"
  }
}
""")

KUBERNETES: Final = Template("""\
apiVersion: v1
kind: Secret
metadata:
  name: $project-s3
  namespace: $stage
type: Opaque
data:
  AWS_ACCESS_KEY_ID: $id64
  AWS_SECRET_ACCESS_KEY: $secret64
""")

KUBECONFIG: Final = Template("""\
apiVersion: v1
kind: Config
current-context: $project-$stage
clusters:
- name: $project-$stage
  cluster:
    server: https://$serial.gr7.$region.eks.$domain
contexts:
- name: $project-$stage
  context:
    cluster: $project-$stage
    user: $project-deploy
users:
- name: $project-deploy
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: aws
      args: [--region, $region, eks, get-token, --cluster-name, $project-$stage]
      env:
      - name: AWS_ACCESS_KEY_ID
        value: $id
      - name: AWS_SECRET_ACCESS_KEY
        value: $secret
""")

S3CFG: Final = Template("""\
[default]
access_key = $id
bucket_location = $region
check_ssl_certificate = True
guess_mime_type = True
host_base = $s3
host_bucket = %(bucket)s.$s3
secret_key = $secret
use_https = True
""")

RCLONE: Final = Template("""\
[$label]
type = s3
provider = AWS
env_auth = false
access_key_id = $id
secret_access_key = $secret
region = $region
acl = private
""")

BOTO: Final = Template("""\
[Credentials]
aws_access_key_id = $id
aws_secret_access_key = $secret

[Boto]
https_validate_certificates = True
""")

MAVEN: Final = Template("""\
<?xml version="1.0" encoding="UTF-8"?>
<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">
  <servers>
    <server>
      <id>$bucket</id>
      <username>$id</username>
      <password>$secret</password>
    </server>
  </servers>
</settings>
""")

GRADLE: Final = Template("""\
${dotted}artifactsRepository=s3://$bucket/releases
${dotted}awsAccessKey=$id
${dotted}awsSecretKey=$secret
""")

PROPERTIES: Final = Template("""\
${dotted}cloud.aws.region.static=$region
${dotted}cloud.aws.credentials.access-key=$id
${dotted}cloud.aws.credentials.secret-key=$secret
${dotted}cloud.aws.s3.bucket=$bucket
""")

JENKINS: Final = Template("""\
pipeline {
  agent any
  environment {
    AWS_DEFAULT_REGION = '$region'
    AWS_ACCESS_KEY_ID = '$id'
    AWS_SECRET_ACCESS_KEY = '$secret'
  }
  stages {
    stage('Build') {
      steps { sh 'make build' }
    }
    stage('Publish') {
      steps { sh 'aws s3 sync dist/ s3://$bucket/$project/' }
    }
  }
}
""")

ACTIONS: Final = Template("""\
name: deploy
on:
  push:
    branches: [main]
jobs:
  deploy:
    runs-on: ubuntu-latest
    env:
      AWS_REGION: $region
      AWS_ACCESS_KEY_ID: $id
      AWS_SECRET_ACCESS_KEY: $secret
    steps:
      - uses: actions/checkout@v4
      - run: make build
      - run: aws s3 sync dist/ s3://$bucket/$project/
""")

GITLAB: Final = Template("""\
stages: [build, deploy]

variables:
  AWS_DEFAULT_REGION: $region
  AWS_ACCESS_KEY_ID: $id
  AWS_SECRET_ACCESS_KEY: $secret

build:
  stage: build
  script: make build

deploy:
  stage: deploy
  script: aws s3 sync dist/ s3://$bucket/$project/
  environment: $stage
""")

NOTEBOOK: Final = Template("""\
{
 "cells": [
  {
   "cell_type": "code",
   "execution_count": 1,
   "metadata": {},
   "outputs": [],
   "source": [
    "import os\\n",
    "import boto3\\n",
    "\\n",
    "os.environ['AWS_ACCESS_KEY_ID'] = '$id'\\n",
    "os.environ['AWS_SECRET_ACCESS_KEY'] = '$secret'\\n",
    "s3 = boto3.client('s3', region_name='$region')\\n",
    "s3.download_file('$bucket', '$project.parquet', '$project.parquet')"
   ]
  }
 ],
 "metadata": {
  "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
  "language_info": {"name": "python", "version": "3.11.9"}
 },
 "nbformat": 4,
 "nbformat_minor": 5
}
""")

WORDPRESS: Final = Template("""\
<?php
define( 'DB_NAME', '$project' );
define( 'DB_USER', '$project' );
define( 'DB_HOST', 'localhost' );
define( 'DB_CHARSET', 'utf8mb4' );

define( 'AS3CF_SETTINGS', serialize( array(
    'provider' => 'aws',
    'access-key-id' => '$id',
    'secret-access-key' => '$secret',
    'bucket' => '$bucket',
    'region' => '$region',
) ) );

$$table_prefix = 'wp_';

if ( ! defined( 'ABSPATH' ) ) {
    define( 'ABSPATH', __DIR__ . '/' );
}
require_once ABSPATH . 'wp-settings.php';
""")

ANSIBLE: Final = Template("""\
${label_}aws_region: $region
${label_}aws_access_key: $id
${label_}aws_secret_key: $secret
${label_}backup_bucket: $bucket
""")
